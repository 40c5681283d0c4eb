# Runs the session with the client that was installed for it, as strict about certificates as it comes.
exec /opt/python/bin/python /clients/python/session.py
