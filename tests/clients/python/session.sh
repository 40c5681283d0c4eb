# Runs the session with the client that was installed for it.
exec /opt/python/bin/python /clients/python/session.py
