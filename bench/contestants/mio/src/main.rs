//! mio, Rust's event queue: `Poll`, `Registry`, `Events` and `Waker`, with raw descriptors
//! registered by `SourceFd`. Always edge-triggered, and without timers.
//!
//! The token of a descriptor is the descriptor, so that an event needs no search.

use std::fmt::Display;
use std::os::unix::io::RawFd;
use std::process::exit;
use std::thread;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

const SLICES: usize = 11;
const CAPACITY: usize = 256;

const EXIT_USAGE: i32 = 2;
const EXIT_NONE: i32 = 3;

fn quit(status: i32, reason: impl Display) -> ! {
    eprintln!("{reason}");
    exit(status)
}

/// An error of mio or of the kernel ends the program.
trait OrQuit<T> {
    fn or_quit(self, what: &str) -> T;
}

impl<T, E: Display> OrQuit<T> for Result<T, E> {
    fn or_quit(self, what: &str) -> T {
        self.unwrap_or_else(|e| quit(1, format_args!("{what}: {e}")))
    }
}

fn check(ok: bool, what: &str) {
    if !ok {
        quit(
            1,
            format_args!("{what}: {}", std::io::Error::last_os_error()),
        );
    }
}

// Arguments

/// The `key=value` arguments of a measure, each of which `word` or `number` takes out.
struct Arguments(Vec<(String, String)>);

impl Arguments {
    fn new(arguments: impl Iterator<Item = String>) -> Self {
        Arguments(
            arguments
                .map(|a| match a.split_once('=') {
                    Some((key, value)) => (key.to_string(), value.to_string()),
                    None => quit(EXIT_USAGE, format_args!("unknown argument {a}")),
                })
                .collect(),
        )
    }

    fn word(&mut self, key: &str, default: &str) -> String {
        let mut value = default.to_string();
        self.0.retain(|(k, v)| {
            if k == key {
                value = v.clone();
            }
            k != key
        });
        value
    }

    fn number(&mut self, key: &str, default: usize) -> usize {
        match self.word(key, &default.to_string()).parse() {
            Ok(n) if n > 0 => n,
            _ => quit(EXIT_USAGE, format_args!("{key} wants a number above zero")),
        }
    }

    /// Whatever is left is unknown.
    fn end(self) {
        if let Some((key, _)) = self.0.first() {
            quit(EXIT_USAGE, format_args!("unknown argument {key}"));
        }
    }
}

// Socket pairs

fn raise_limit() -> usize {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: limit is valid for both calls.
    unsafe {
        check(
            libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0,
            "getrlimit",
        );
        limit.rlim_cur = limit.rlim_max;
        check(
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit) == 0,
            "setrlimit",
        );
    }
    limit.rlim_cur.min(1_000_000_000) as usize
}

/// How many of n pairs, times sets, fit the limit of descriptors.
fn fitting(n: usize, sets: usize) -> usize {
    let most = raise_limit().saturating_sub(256) / (2 * sets);
    if most == 0 {
        quit(1, "the limit of descriptors is too low");
    }
    n.min(most)
}

#[derive(Clone, Copy)]
struct Pair {
    near: RawFd,
    far: RawFd,
}

fn open_pairs(n: usize) -> Vec<Pair> {
    (0..n)
        .map(|_| {
            let mut fd = [0; 2];
            let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            // SAFETY: fd has room for two descriptors.
            check(
                unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fd.as_mut_ptr()) } == 0,
                "socketpair",
            );
            Pair {
                near: fd[0],
                far: fd[1],
            }
        })
        .collect()
}

fn put_byte(fd: RawFd) {
    // SAFETY: the byte is valid for the call.
    check(
        unsafe { libc::write(fd, b"x".as_ptr().cast(), 1) } == 1,
        "write",
    );
}

/// Reads a byte; false at the end of the stream.
fn read_byte(fd: RawFd) -> bool {
    let mut byte = 0u8;
    // SAFETY: the byte is valid for the call.
    let n = unsafe { libc::read(fd, (&mut byte as *mut u8).cast(), 1) };
    check(n >= 0, "read");
    n == 1
}

fn take_byte(fd: RawFd) {
    check(read_byte(fd), "read");
}

// Results

fn median(values: &[f64]) -> f64 {
    let mut v = values.to_vec();
    v.sort_by(f64::total_cmp);
    let n = v.len();
    if n % 2 == 1 {
        v[n / 2]
    } else {
        (v[n / 2 - 1] + v[n / 2]) / 2.0
    }
}

/// The median of the slices without the first.
fn median_slice(values: &[f64; SLICES]) -> f64 {
    median(&values[1..])
}

fn per_slice(rounds: usize) -> usize {
    (rounds / SLICES).max(1)
}

/// In nanoseconds.
fn since(t: Instant) -> f64 {
    t.elapsed().as_nanos() as f64
}

// mio

struct Queue {
    poll: Poll,
    events: Events,
}

impl Queue {
    fn new() -> Self {
        Queue {
            poll: Poll::new().or_quit("Poll::new"),
            events: Events::with_capacity(CAPACITY),
        }
    }

    fn add(&self, fd: RawFd) {
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), Token(fd as usize), Interest::READABLE)
            .or_quit("register");
    }

    fn remove(&self, fd: RawFd) {
        self.poll
            .registry()
            .deregister(&mut SourceFd(&fd))
            .or_quit("deregister");
    }

    fn wait(&mut self, timeout: Option<Duration>) {
        if let Err(e) = self.poll.poll(&mut self.events, timeout) {
            if e.kind() != std::io::ErrorKind::Interrupted {
                quit(1, format_args!("poll: {e}"));
            }
        }
    }

    /// The descriptors that the last wait reported.
    fn reported(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.events.iter().map(|e| e.token().0 as RawFd)
    }
}

// Measures

fn measure_event(mut arguments: Arguments) {
    let mode = arguments.word("mode", "edge");
    let active = arguments.number("active", 64);
    let registered = arguments.number("registered", 2000);
    let rounds = per_slice(arguments.number("rounds", 2200));
    let rotate = match arguments.word("rotate", "yes").as_str() {
        "yes" => 1,
        "no" => 0,
        _ => quit(EXIT_USAGE, "rotate is yes or no"),
    };
    arguments.end();
    match mode.as_str() {
        "edge" => (),
        "level" => quit(EXIT_NONE, "no level-triggered events"),
        _ => quit(EXIT_USAGE, "mode is edge or level"),
    }
    // The baseline has sockets of its own, of which it touches as many.
    let n = fitting(registered, 1 + rotate);
    if active > n {
        quit(EXIT_USAGE, "more active than registered");
    }

    let plain = if rotate == 1 { n } else { active };
    let (with, without) = (open_pairs(n), open_pairs(plain));
    let mut queue = Queue::new();
    for pair in &with {
        queue.add(pair.near);
    }
    let (mut ns, mut base) = ([0.0; SLICES], [0.0; SLICES]);
    let (step, plain_step) = (n / active, plain / active);
    let events = (active * rounds) as f64;
    for slice in 0..SLICES {
        let of_slice = slice * rounds..(slice + 1) * rounds;
        let start = Instant::now();
        for round in of_slice.clone() {
            for i in 0..active {
                put_byte(with[(i * step + round * rotate) % n].far);
            }
            let mut seen = 0;
            while seen < active {
                queue.wait(None);
                for fd in queue.reported() {
                    take_byte(fd);
                    seen += 1;
                }
            }
        }
        let queued = since(start);
        let start = Instant::now();
        for round in of_slice {
            for i in 0..active {
                put_byte(without[(i * plain_step + round * rotate) % plain].far);
            }
            for i in 0..active {
                take_byte(without[(i * plain_step + round * rotate) % plain].near);
            }
        }
        base[slice] = since(start) / events;
        ns[slice] = queued / events - base[slice];
    }
    println!(
        "ns {:.2}\nbase {:.2}\nregistered {n}",
        median_slice(&ns),
        median_slice(&base)
    );
}

fn measure_ready(mut arguments: Arguments) {
    arguments.number("active", 64);
    arguments.number("rounds", 20000);
    arguments.end();
    quit(EXIT_NONE, "no level-triggered events");
}

fn measure_register(mut arguments: Arguments) {
    let n = fitting(arguments.number("registered", 1000), 1);
    let rounds = per_slice(arguments.number("rounds", 110));
    arguments.end();

    let pairs = open_pairs(n);
    let mut queue = Queue::new();
    let mut ns = [0.0; SLICES];
    for x in &mut ns {
        let start = Instant::now();
        for _ in 0..rounds {
            for pair in &pairs {
                queue.add(pair.near);
            }
            queue.wait(Some(Duration::ZERO));
            for pair in &pairs {
                queue.remove(pair.near);
            }
            queue.wait(Some(Duration::ZERO));
        }
        *x = since(start) / (n * rounds) as f64;
    }
    println!("ns {:.2}\nregistered {n}", median_slice(&ns));
}

/// One of the counters of /proc/self/status, without its unit.
fn status(name: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").or_quit("/proc/self/status");
    text.lines()
        .find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix(':')?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or_else(|| quit(1, format_args!("/proc/self/status has no {name}")))
}

fn measure_memory(mut arguments: Arguments) {
    let n = fitting(arguments.number("registered", 8000), 1);
    arguments.end();

    let pairs = open_pairs(n);
    let mut queue = Queue::new();
    queue.wait(Some(Duration::ZERO));
    status("RssAnon"); // what reading it allocates is not to be counted
    let before = status("RssAnon");
    for pair in &pairs {
        queue.add(pair.near);
    }
    queue.wait(Some(Duration::ZERO));
    println!(
        "bytes {:.2}\nregistered {n}",
        (status("RssAnon") - before) * 1024.0 / n as f64
    );
}

fn measure_wake(mut arguments: Arguments) {
    let kind = arguments.word("kind", "coalesced");
    let rounds = per_slice(arguments.number("rounds", 1000000));
    arguments.end();
    if kind != "coalesced" {
        quit(EXIT_NONE, format_args!("no wake of the kind {kind}"));
    }

    let mut queue = Queue::new();
    const WOKEN: Token = Token(usize::MAX);
    let waker = Waker::new(queue.poll.registry(), WOKEN).or_quit("Waker::new");
    waker.wake().or_quit("wake"); // the one that all others are merged with
    let mut ns = [0.0; SLICES];
    for x in &mut ns {
        let start = Instant::now();
        for _ in 0..rounds {
            waker.wake().or_quit("wake");
        }
        *x = since(start) / rounds as f64;
    }
    queue.wait(None);
    let woken = queue.events.iter().filter(|e| e.token() == WOKEN).count();
    if woken != 1 {
        quit(1, format_args!("{woken} wakes were reported"));
    }
    println!("ns {:.2}", median_slice(&ns));
}

fn measure_timers(mut arguments: Arguments) {
    arguments.number("n", 100000);
    arguments.number("rounds", 5);
    arguments.end();
    quit(EXIT_NONE, "no timers");
}

fn measure_threads(mut arguments: Arguments) {
    arguments.number("queues", 1000);
    arguments.end();
    quit(EXIT_NONE, "no goroutines: each waiting thread is a thread");
}

fn measure_pingpong(mut arguments: Arguments) {
    let n = fitting(arguments.number("pairs", 1), 1);
    let of_slice = per_slice(arguments.number("trips", 20000));
    arguments.end();

    let pairs = open_pairs(n);
    let (mut here, mut there) = (Queue::new(), Queue::new());
    for pair in &pairs {
        here.add(pair.near);
        there.add(pair.far);
    }
    let thread = thread::spawn(move || loop {
        there.wait(None);
        for fd in there.reported() {
            if !read_byte(fd) {
                return;
            }
            put_byte(fd);
        }
    });

    let mut ns = [0.0; SLICES];
    let (mut slice, mut trips, mut start) = (0, 0, Instant::now());
    for pair in &pairs {
        put_byte(pair.near);
    }
    while slice < SLICES {
        here.wait(None);
        for fd in here.reported() {
            take_byte(fd);
            trips += 1;
            if trips == of_slice {
                ns[slice] = since(start) / of_slice as f64;
                (slice, trips, start) = (slice + 1, 0, Instant::now());
            }
            if slice == SLICES {
                // The end is told on the pair that has no byte under way: were there one, a
                // single edge could stand for both, and the end not be seen.
                // SAFETY: no memory is passed.
                check(
                    unsafe { libc::shutdown(fd, libc::SHUT_WR) } == 0,
                    "shutdown",
                );
                break;
            }
            put_byte(fd);
        }
    }
    thread.join().unwrap();
    println!("ns {:.2}\nregistered {n}", median_slice(&ns));
}

fn main() {
    raise_limit();
    let mut words = std::env::args().skip(1);
    let measure = match words.next().as_deref() {
        Some("event") => measure_event,
        Some("ready") => measure_ready,
        Some("register") => measure_register,
        Some("memory") => measure_memory,
        Some("wake") => measure_wake,
        Some("timers") => measure_timers,
        Some("threads") => measure_threads,
        Some("pingpong") => measure_pingpong,
        _ => quit(EXIT_USAGE, "usage: mio-contestant event|ready|register|memory|wake|timers|threads|pingpong [key=value ...]"),
    };
    measure(Arguments::new(words));
}
