//! The network between a server and the database: a namespace for the server, with a pair of interfaces to the clients
//! and another one to the database, so that what happens to the second one does nothing to the first.

use std::net::Ipv4Addr;
use std::process::Command;

use crate::tool;

/// A server's network. It goes with this value.
pub(crate) struct Link {
    pub(crate) namespace: String,
    /// Where clients find the server.
    pub(crate) server: Ipv4Addr,
    /// Where the server finds the database.
    pub(crate) database: Ipv4Addr,
    /// The server's end of the way to the database.
    interface: String,
}

impl Link {
    pub(crate) fn make(number: u8) -> anyhow::Result<Self> {
        let pid = std::process::id();
        let namespace = format!("onex-chaos-{pid}-{number}");
        // Another network for each process, so that two of them may run.
        let network = u8::try_from(pid % 200)?;
        let address = |way: u8, end: u8| Ipv4Addr::new(10, 233, network, 16 * number + 4 * way + end);
        let link = Self {
            server: address(0, 2),
            database: address(1, 1),
            interface: format!("ox{pid}b{number}"),
            namespace,
        };
        let namespace = &link.namespace;
        tool::run_words(&format!("ip netns add {namespace}"))?;
        tool::run_words(&format!("ip -n {namespace} link set lo up"))?;
        for (way, name) in [(0, 'f'), (1, 'b')] {
            let (ours, theirs) = (format!("ox{pid}{name}h{number}"), format!("ox{pid}{name}{number}"));
            let (near, far) = (address(way, 1), address(way, 2));
            tool::run_words(&format!("ip link add {ours} type veth peer name {theirs} netns {namespace}"))?;
            tool::run_words(&format!("ip addr add {near}/30 dev {ours}"))?;
            tool::run_words(&format!("ip link set {ours} up"))?;
            tool::run_words(&format!("ip -n {namespace} addr add {far}/30 dev {theirs}"))?;
            tool::run_words(&format!("ip -n {namespace} link set {theirs} up"))?;
        }
        // What the kernel can't do is found out now, and not in the middle of a run.
        link.lose(20)?;
        link.delay()?;
        link.heal()?;
        Ok(link)
    }

    /// Nothing gets through, and nobody is told.
    pub(crate) fn cut(&self) -> anyhow::Result<()> {
        self.filter("")
    }

    /// So many packets of a hundred don't get through, in either direction.
    pub(crate) fn lose(&self, percent: u8) -> anyhow::Result<()> {
        self.filter(&format!(" -m statistic --mode random --probability {}", f32::from(percent) / 100.0))
    }

    /// Packets are late by up to a fifth of a second. Where the kernel can't delay them, the way is so slow that they
    /// queue up; says which of both.
    pub(crate) fn delay(&self) -> anyhow::Result<&'static str> {
        let (namespace, interface) = (&self.namespace, &self.interface);
        let add = format!("ip netns exec {namespace} tc qdisc add dev {interface} root");
        if tool::run_words(&format!("{add} netem delay 150ms 50ms")).is_ok() {
            return Ok("netem");
        }
        tool::run_words(&format!("{add} tbf rate 256kbit burst 4kb latency 500ms"))?;
        Ok("tbf")
    }

    /// All is as it was.
    pub(crate) fn heal(&self) -> anyhow::Result<()> {
        let namespace = &self.namespace;
        tool::run_words(&format!("ip netns exec {namespace} iptables -F"))?;
        // Fails if there is none, and there needn't be.
        let _ =
            tool::run_words(&format!("ip netns exec {namespace} tc qdisc del dev {} root", self.interface));
        Ok(())
    }

    fn filter(&self, which: &str) -> anyhow::Result<()> {
        let (namespace, interface) = (&self.namespace, &self.interface);
        for (chain, direction) in [("INPUT", "-i"), ("OUTPUT", "-o")] {
            tool::run_words(&format!(
                "ip netns exec {namespace} iptables -A {chain} {direction} {interface}{which} -j DROP"
            ))?;
        }
        Ok(())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Its interfaces go with it, and so do their other ends.
        if let Err(error) = tool::run(Command::new("ip").args(["netns", "del", &self.namespace])) {
            eprintln!("{error:#}");
        }
    }
}
