//! Container runtime: trait, containerd client and fake.
