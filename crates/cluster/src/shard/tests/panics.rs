//! A bug in a protocol costs the connection that met it.

use super::*;

/// Breaks at the first byte.
struct Broken;

impl Session for Broken {
    fn protocol(&self) -> Protocol {
        Protocol::Mqtt
    }
    fn receive(&mut self, _input: &mut BytesMut, ctx: &mut Context<'_>) {
        ctx.out.request(Request::ListGroups { token: 1 });
        panic!("a bug");
    }
    fn event(&mut self, _event: Event, _ctx: &mut Context<'_>) {}
    fn access_changed(&mut self, _ctx: &mut Context<'_>) {}
    fn tick(&mut self, _ctx: &mut Context<'_>) {}
    fn deadline(&self) -> Moment {
        Moment::NEVER
    }
    fn disconnected(&mut self, _ctx: &mut Context<'_>) {}
    fn shutdown(&mut self, _ctx: &mut Context<'_>) {}
}

#[test]
fn panic_in_the_broker_closes_its_session_alone() {
    let disk = MemoryDisk::new();
    let mut node = Node::open(&disk, 1);
    let client = node.connect(0);
    let queue = node.queue(&client, "jobs");
    let broken = node.shards[0].connect(node.now, Box::new(Broken));
    node.shards[0].receive(node.now, broken, &mut BytesMut::from(&b"x"[..]));
    node.settle();
    assert!(node.shards[0].wants_close(broken));
    node.publish(&client, &[queue], "goes on");
    node.shards[0].disconnected(node.now, broken);
    node.publish(&client, &[queue], "and on");
    let got = deliveries(node.ask(&client, attach(queue, 1, 10)));
    assert_eq!(bodies(&got), ["goes on", "and on"]);
}
