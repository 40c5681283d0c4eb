//! Workers on the in-memory runtime and a small API.
