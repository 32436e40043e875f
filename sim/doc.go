// Package sim runs programs on Epore in a simulated world: with virtual time, a network whose
// faults are drawn from a seed, and an order of events that the seed repeats.
//
// A [World] lives in a testing/synctest bubble. Its Hosts give queues for real Polls
// ([Host.Backend]) and make real sockets of package socket ([Host.Listen], [Host.Dial]), so
// that the code under test is the code that runs in production. A package loop server runs on
// a Host with loop.Config{NewPoll: ..., Network: host}. docs/simulation.md has a complete test,
// the faults one by one, and the traps.
//
// One at a time, in an order that the seed decides, Polls and Tasks get a turn: until they
// poll or sleep again. Between turns, what is due on the network happens. So the same seed
// gives the same run, whatever the number of processors, as long as all that happens is done by
// goroutines that poll, by Tasks ([Host.Go]), and by one goroutine of the test, which uses
// [World.Sleep] and [World.Settle] instead of time.Sleep and synctest.Wait.
//
// Not repeatable are other goroutines that act at the same instant (time.Sleep to equal
// instants among them); what a goroutine does before its first Poll, if others see it; a
// select with several ready cases; the order of a map; real input and output; random numbers
// that are not drawn from a seed, as those of crypto/tls. [Check] finds out.
//
// Everything that a World does to a program stays within Epore's contract (docs/contract.md).
// Where the contract leaves something open, the World takes what is worst for the program: an
// edge is reported again only after an operation that would have blocked.
//
// What is not simulated: IPv6 and Unix sockets, urgent data, ReusePort, multicast, options of
// sockets except for linger, TCP's congestion control. Everything of real descriptors fails
// on a simulated socket: SyscallConn gives a number that no system call knows. A simulated
// socket belongs to its bubble.
package sim
