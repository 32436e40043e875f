package slab_test

import (
	"fmt"

	"github.com/epore/epore"
	"github.com/epore/epore/slab"
)

// session is what a server keeps for each connection.
type session struct {
	name  string
	token epore.Token
}

func Example() {
	var sessions slab.Slab[*session]

	// A connection comes. Its socket is registered with the token.
	alice := &session{name: "alice"}
	alice.token = sessions.Insert(alice)

	// An event comes.
	if s, ok := sessions.Get(alice.token); ok {
		fmt.Println("an event of", s.name)
	}

	// The connection ends, and another one takes its place.
	sessions.Remove(alice.token)
	bob := &session{name: "bob"}
	bob.token = sessions.Insert(bob)

	// What still asks for the first one does not meet the second.
	_, ok := sessions.Get(alice.token)
	fmt.Println("alice found:", ok)
	for _, s := range sessions.All() {
		fmt.Println("connected:", s.name)
	}
	// Output:
	// an event of alice
	// alice found: false
	// connected: bob
}
