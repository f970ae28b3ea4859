//! A TCP load balancer in front of the apiservers. It distributes *connections* round robin, as a
//! ClusterIP does, and does not look at their content.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::faults::Faults;
use super::tasks::Tasks;

/// One apiserver behind the load balancer.
#[derive(Clone, Debug)]
pub(super) struct Backend {
    /// The address that the apiserver listens on.
    pub(super) address: SocketAddr,
    /// A server that is down gets no connections, as if it had failed a health check.
    pub(super) faults: Arc<Faults>,
}

/// Accepts connections until the control plane stops.
pub(super) async fn serve(listener: TcpListener, backends: Vec<Backend>, tasks: Tasks) {
    let mut next = 0;
    loop {
        let Ok((client, _)) = listener.accept().await else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let up: Vec<&Backend> = backends
            .iter()
            .filter(|backend| !backend.faults.is_down())
            .collect();
        if up.is_empty() {
            continue;
        }
        let address = up[next % up.len()].address;
        next += 1;
        tasks.spawn_until_stop(relay(client, address));
    }
}

async fn relay(mut client: TcpStream, address: SocketAddr) {
    let Ok(mut server) = TcpStream::connect(address).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    // Either side may close the connection. copy_bidirectional passes that on to the other side.
    let _ = copy_bidirectional(&mut client, &mut server).await;
}
