//! A host that moves the bytes of a [`Mix`] over TCP in real time, on one thread. The only file of this
//! crate that does input and output. A node that dies or comes back is met as a client meets it.

use crate::client::Protocol;
use crate::mix::{Link, Mix, Wish};
use koine_base::{Moment, Now, Timestamp};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const READ_BYTES: usize = 64 << 10;
/// Reads of one socket in a turn: the others wait.
const READS_MAX: usize = 16;
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Longest sleep of a turn in which nothing happened.
const SLEEP_MAX: Duration = Duration::from_millis(2);

/// Where a node listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub kafka: SocketAddr,
    pub amqp: SocketAddr,
    pub mqtt: SocketAddr,
}

struct Socket {
    stream: TcpStream,
    /// Not written yet.
    out: Vec<u8>,
}

pub struct TcpHost {
    addresses: Addresses,
    sockets: BTreeMap<Link, Socket>,
    origin: Instant,
}

impl TcpHost {
    pub fn new(addresses: Addresses) -> Self {
        TcpHost { addresses, sockets: BTreeMap::new(), origin: Instant::now() }
    }

    /// The node has come back at other ports; new connections go there.
    pub fn move_to(&mut self, addresses: Addresses) {
        self.addresses = addresses;
    }

    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            moment: Moment(self.origin.elapsed().as_micros() as u64),
            wall: Timestamp(wall.as_millis() as i64),
        }
    }

    /// Runs the mix for a while.
    pub fn run_for(&mut self, mix: &mut Mix, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.turn(mix);
        }
    }

    /// Drains the mix; false if it did not come to its end in `time`.
    pub fn drain(&mut self, mix: &mut Mix, time: Duration) -> bool {
        mix.drain(self.now());
        let until = Instant::now() + time;
        while !mix.is_drained() && Instant::now() < until {
            self.turn(mix);
        }
        mix.is_drained()
    }

    /// Moves what there is to move; sleeps for a moment if there is nothing.
    pub fn turn(&mut self, mix: &mut Mix) {
        let wishes = mix.poll(self.now());
        let mut is_idle = wishes.is_empty();
        for wish in wishes {
            self.fulfil(wish, mix);
        }
        let links: Vec<Link> = self.sockets.keys().copied().collect();
        for link in links {
            let moved = self.write(link).and_then(|()| self.read(link, mix));
            is_idle &= moved == Some(false);
            if moved.is_none() {
                self.sockets.remove(&link);
                mix.closed(self.now(), link);
            }
        }
        if is_idle {
            let wait = mix.deadline().since(self.now().moment);
            thread::sleep(wait.min(SLEEP_MAX));
        }
    }

    fn fulfil(&mut self, wish: Wish, mix: &mut Mix) {
        match wish {
            Wish::Connect { link, protocol } => match self.connect(protocol) {
                Ok(stream) => {
                    self.sockets.insert(link, Socket { stream, out: Vec::new() });
                    mix.connected(self.now(), link);
                }
                Err(_) => mix.closed(self.now(), link),
            },
            Wish::Send { link, bytes } => {
                if let Some(socket) = self.sockets.get_mut(&link) {
                    socket.out.extend_from_slice(&bytes);
                }
            }
            Wish::Close { link } => {
                // What is still in `out` never leaves: a client may end in the middle of a frame.
                self.sockets.remove(&link);
            }
        }
    }

    fn connect(&self, protocol: Protocol) -> std::io::Result<TcpStream> {
        let address = match protocol {
            Protocol::Kafka => self.addresses.kafka,
            Protocol::Amqp091 => self.addresses.amqp,
            Protocol::Mqtt => self.addresses.mqtt,
        };
        let stream = TcpStream::connect_timeout(&address, CONNECT_WITHIN)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    /// `None` if the connection is gone.
    fn write(&mut self, link: Link) -> Option<()> {
        let socket = self.sockets.get_mut(&link)?;
        while !socket.out.is_empty() {
            match socket.stream.write(&socket.out) {
                Ok(count) => drop(socket.out.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        Some(())
    }

    /// Whether anything came; `None` if the connection is gone.
    fn read(&mut self, link: Link, mix: &mut Mix) -> Option<bool> {
        let mut buffer = [0; READ_BYTES];
        for count in 0..READS_MAX {
            match self.sockets.get_mut(&link)?.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(bytes) => mix.receive(self.now(), link, &buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(count > 0),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        Some(true)
    }
}
