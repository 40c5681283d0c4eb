"""Python 3.13 and newer refuse certificates that do not name the key of their issuer (VERIFY_X509_STRICT), as the box's
do. Until the box's do, this takes that check out of every Python client, so that what lies behind it is tested."""

import _ssl
import ssl

_ssl.VERIFY_X509_STRICT = 0
ssl.VERIFY_X509_STRICT = ssl.VerifyFlags(0)
