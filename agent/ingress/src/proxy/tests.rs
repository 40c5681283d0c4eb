//! The proxy as clients meet it.
