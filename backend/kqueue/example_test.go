//go:build unix

package kqueue_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/epore/epore"
	"github.com/epore/epore/backend/kqueue"
	"github.com/epore/epore/backend/pollfd"
)

// On macOS and the BSDs, epore.New opens a kqueue. This example opens one explicitly, and
// uses poll(2) where the system has no kqueue.
func Example() {
	p, err := epore.NewWith(kqueue.New())
	if errors.Is(err, errors.ErrUnsupported) {
		p, err = epore.NewWith(pollfd.New())
	}
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	fmt.Println(p.Strategy())
	// Output: Block
}
