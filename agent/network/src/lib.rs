//! Pod network, service addresses and cluster DNS.
