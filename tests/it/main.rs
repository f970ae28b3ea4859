//! The integration tests: the real proxy on sockets against the model control plane, whose journal judges what really happened.

mod architecture;
