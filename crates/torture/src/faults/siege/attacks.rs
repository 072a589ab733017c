//! The attacks. Each runs in threads of its own until it is told to end.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use koine_workload::frames::mqtt::{kind, put_packet};
use koine_workload::frames::wire::Put;

use super::{bombs, Target, PASSWORD, USER};

/// Of the broker: there is room for the besiegers and for who works, and memory is not filled with what was
/// stored last.
pub const ARGUMENTS: [&str; 2] = ["--limits-connections=14000", "--storage-tail-cache=256MiB"];

const SOCKETS: usize = 10_000;
/// QoS 2 publishes that are begun, all sessions together.
const HALF_DONE: u64 = 1_000_000;
const SESSIONS: u64 = 1_000;
const REST_SECONDS: u32 = 10;
const FULL_LIMIT: Duration = Duration::from_secs(180);
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

pub struct Attack {
    pub name: &'static str,
    /// What it has to have done before the broker is measured, within [`FULL_LIMIT`].
    pub full: u64,
    pub begin: fn(&Target) -> Result<Siege, String>,
}

pub const ATTACKS: [Attack; 5] = [
    Attack { name: "dribble", full: SOCKETS as u64, begin: dribble },
    Attack { name: "half-open TLS", full: SOCKETS as u64, begin: half_open },
    Attack { name: "half-done QoS 2", full: HALF_DONE, begin: half_done },
    Attack { name: "announced 10 GB", full: 0, begin: announced },
    Attack { name: "bombs", full: 0, begin: bombs::begin },
];

/// What they have done, and how to end it.
pub struct Siege {
    ends: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    of: &'static str,
    threads: Vec<JoinHandle<()>>,
}

impl Siege {
    pub fn new(of: &'static str) -> Siege {
        Siege { ends: Arc::default(), count: Arc::default(), of, threads: Vec::new() }
    }

    /// Calls `turn` again and again; it adds what it did to the count.
    pub fn run(&mut self, mut turn: impl FnMut(&AtomicU64) + Send + 'static) {
        let (ends, count) = (Arc::clone(&self.ends), Arc::clone(&self.count));
        self.threads.push(std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                turn(&count);
            }
        }));
    }

    /// Waits until it has done this much; false when that takes too long.
    pub fn wait_until_full(&self, full: u64) -> bool {
        let began = Instant::now();
        while self.count.load(Ordering::Relaxed) < full {
            if began.elapsed() > FULL_LIMIT {
                return false;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        true
    }

    pub fn end(&mut self) -> String {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        format!("{} {}", self.count.load(Ordering::Relaxed), self.of)
    }
}

impl Drop for Siege {
    fn drop(&mut self) {
        self.end();
    }
}

/// One socket that says its piece byte by byte, and begins anew when it is closed.
struct Dribbler {
    address: String,
    piece: Vec<u8>,
    said: usize,
    stream: Option<TcpStream>,
    /// Seconds until it comes again after it was closed: a storm of new connections is another attack.
    rests: u32,
}

impl Dribbler {
    /// One byte, or `burst` at first.
    fn say(&mut self, burst: usize) -> bool {
        self.rests = self.rests.saturating_sub(1);
        if self.stream.is_none() && self.rests > 0 {
            return false;
        }
        if self.stream.is_none() {
            self.rests = REST_SECONDS;
            self.said = 0;
            self.stream = TcpStream::connect(&self.address).ok();
            if let Some(stream) = &self.stream {
                let _ = stream.set_nonblocking(true);
            }
        }
        let Some(stream) = &mut self.stream else { return false };
        let end = if self.said == 0 { burst.max(1) } else { self.said + 1 }.min(self.piece.len());
        let written = stream.write(&self.piece[self.said..end]);
        match written {
            Ok(count) => self.said += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.stream = None,
        }
        // A socket that the broker has closed says so when it is read.
        let is_closed = match &mut self.stream {
            Some(stream) => matches!(stream.read(&mut [0; 64]), Ok(0)),
            None => false,
        };
        if is_closed {
            self.stream = None;
        }
        self.stream.is_some()
    }
}

/// `burst` bytes of each socket's piece come at once, the others one in a second.
fn many(pieces: Vec<(String, Vec<u8>)>, burst: usize, of: &'static str) -> Siege {
    let mut dribblers: Vec<Dribbler> = (0..SOCKETS)
        .map(|index| {
            let (address, piece) = pieces[index % pieces.len()].clone();
            Dribbler { address, piece, said: 0, stream: None, rests: 0 }
        })
        .collect();
    let mut siege = Siege::new(of);
    siege.run(move |count| {
        let began = Instant::now();
        let open = dribblers.iter_mut().map(|dribbler| u64::from(dribbler.say(burst))).sum();
        count.fetch_max(open, Ordering::Relaxed);
        std::thread::sleep(Duration::from_secs(1).saturating_sub(began.elapsed()));
    });
    siege
}

/// A Kafka frame, an AMQP frame and an MQTT CONNECT that are never whole.
fn dribble(target: &Target) -> Result<Siege, String> {
    let addresses = &target.addresses;
    let mut kafka = Vec::new();
    kafka.put_i32(60_000);
    kafka.resize(60_000, 0);
    let mut amqp = b"AMQP\x00\x00\x09\x01".to_vec();
    amqp.extend_from_slice(&[1, 0, 0, 0, 0, 0x1f, 0]);
    amqp.resize(8_000, 0);
    let mut mqtt = vec![0x10, 0x80, 0x80, 0x03];
    mqtt.extend_from_slice(b"\x00\x04MQTT\x04\xc2\x00\x3c\xff\xff");
    mqtt.resize(49_000, b'x');
    let pieces = vec![
        (addresses.kafka.clone(), kafka),
        (addresses.amqp.clone(), amqp),
        (addresses.mqtt.clone(), mqtt),
    ];
    Ok(many(pieces, 1, "sockets at once, one byte a second each"))
}

/// A TLS record that announces a ClientHello and stops in the middle.
fn half_open(target: &Target) -> Result<Siege, String> {
    let addresses = &target.addresses;
    let mut hello = vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    hello.resize(400, 0x5a);
    let pieces = [&addresses.kafka, &addresses.amqp, &addresses.mqtt]
        .map(|address| (address.clone(), hello.clone()));
    Ok(many(pieces.to_vec(), 300, "handshakes begun at once"))
}

/// Half a frame that says it is larger than anything, before and after the login.
fn announced(target: &Target) -> Result<Siege, String> {
    let addresses = &target.addresses;
    let mut kafka = Vec::new();
    kafka.put_i32(i32::MAX);
    kafka.resize(6_000, 0);
    let mut mqtt = vec![0x10, 0xff, 0xff, 0xff, 0x7f];
    mqtt.resize(6_000, 0);
    let mut amqp = b"AMQP\x00\x00\x09\x01".to_vec();
    amqp.extend_from_slice(&[1, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    amqp.resize(6_000, 0);
    let pieces = vec![
        (addresses.kafka.clone(), kafka),
        (addresses.amqp.clone(), amqp),
        (addresses.mqtt.clone(), mqtt),
    ];
    let mut siege = many(pieces, 6_000, "sockets that announced 0.25 to 4 GB at once");
    // Logs in once: what a login costs is another matter.
    let address = addresses.amqp.clone();
    let mut stream = None;
    siege.run(move |_| {
        stream = stream.take().or_else(|| amqp_channel(&address).ok());
        if stream.as_mut().is_some_and(|stream| announce(stream).is_err()) {
            stream = None;
        }
        std::thread::sleep(Duration::from_millis(1));
    });
    Ok(siege)
}

/// Announces 10 GB and waits for the refusal, which closes the channel; opens another.
fn announce(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut answer = [0; 4096];
    stream.write_all(&ten_gigabytes())?;
    let _ = stream.read(&mut answer)?;
    stream.write_all(&frame(1, 1, &[0, 20, 0, 41]))?; // channel.close-ok
    stream.write_all(&frame(1, 1, &[0, 20, 0, 10, 0]))?;
    match stream.read(&mut answer)? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// basic.publish and a content header whose body is to have 10 GB.
fn ten_gigabytes() -> Vec<u8> {
    let mut publish = vec![0, 60, 0, 40, 0, 0];
    publish.extend_from_slice(b"\x00\x05siege\x00");
    let mut header = vec![0, 60, 0, 0];
    header.put_u64(10_000_000_000);
    header.put_u16(0);
    let mut out = frame(1, 1, &publish);
    out.extend(frame(2, 1, &header));
    out
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.put_u16(channel);
    out.put_u32(payload.len() as u32);
    out.extend_from_slice(payload);
    out.push(0xce);
    out
}

/// A logged-in connection with an open channel; answers are read and not looked at.
fn amqp_channel(address: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let response = format!("\0{USER}\0{PASSWORD}");
    let mut start_ok = vec![0, 10, 0, 11, 0, 0, 0, 0];
    start_ok.extend_from_slice(b"\x05PLAIN");
    start_ok.put_u32(response.len() as u32);
    start_ok.extend_from_slice(response.as_bytes());
    start_ok.extend_from_slice(b"\x05en_US");
    let tune_ok = [0, 10, 0, 31, 0x07, 0xff, 0, 2, 0, 0, 0, 0];
    let open = [0, 10, 0, 40, 1, b'/', 0, 0];
    let channel_open = [0, 20, 0, 10, 0];
    let mut answer = [0; 4096];
    stream.write_all(b"AMQP\x00\x00\x09\x01")?;
    let _ = stream.read(&mut answer)?;
    stream.write_all(&frame(1, 0, &start_ok))?;
    let _ = stream.read(&mut answer)?;
    stream.write_all(&frame(1, 0, &tune_ok))?;
    stream.write_all(&frame(1, 0, &open))?;
    let _ = stream.read(&mut answer)?;
    stream.write_all(&frame(1, 1, &channel_open))?;
    let _ = stream.read(&mut answer)?;
    Ok(stream)
}

pub fn mqtt_connect(address: &str, client: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let mut content = Vec::new();
    content.put_short_text("MQTT");
    content.extend_from_slice(&[5, 0xc2, 0, 0, 0]);
    content.put_short_text(client);
    content.put_short_text(USER);
    content.put_short_text(PASSWORD);
    let mut out = Vec::new();
    put_packet(&mut out, kind::CONNECT, &content);
    stream.write_all(&out)?;
    let mut answer = [0; 256];
    match stream.read(&mut answer)? {
        count if count > 4 && answer[3] == 0 => Ok(stream),
        _ => Err(std::io::Error::other("CONNECT was refused")),
    }
}

/// Sessions that begin as many exactly-once publishes as they may, read every PUBREC and release none.
fn half_done(target: &Target) -> Result<Siege, String> {
    let address = target.addresses.mqtt.clone();
    let mut siege = Siege::new("QoS 2 publishes begun and not completed");
    let mut streams: Vec<TcpStream> = Vec::new();
    siege.run(move |count| {
        if streams.len() as u64 >= SESSIONS {
            return std::thread::sleep(Duration::from_millis(50));
        }
        let Ok(mut stream) = mqtt_connect(&address, &format!("half-done-{}", streams.len())) else {
            return std::thread::sleep(Duration::from_millis(50));
        };
        let each = HALF_DONE / SESSIONS;
        let mut out = Vec::new();
        for identifier in 1..=each as u16 {
            let mut content = Vec::new();
            content.put_short_text("half/done");
            content.put_u16(identifier);
            content.put_u8(0);
            content.extend_from_slice(b"body");
            put_packet(&mut out, kind::PUBLISH | 0x04, &content);
        }
        if stream.write_all(&out).is_ok() {
            count.fetch_add(each, Ordering::Relaxed);
        }
        let mut heard = 0;
        let mut answer = [0; 8192];
        while heard < each as usize * 4 {
            match stream.read(&mut answer) {
                Ok(0) | Err(_) => break,
                Ok(bytes) => heard += bytes,
            }
        }
        streams.push(stream);
    });
    Ok(siege)
}
