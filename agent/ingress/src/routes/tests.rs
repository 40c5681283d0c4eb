//! What Ingresses mean.
