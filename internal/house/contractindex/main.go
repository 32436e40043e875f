// Contractindex writes docs/contract-index.md: for each rule of docs/contract.md, the tests
// that hold it.
//
//	go run ./internal/house/contractindex    in the top folder
//
// A test names its rules in a comment directly above it:
//
//	// contract: R7, M2
//	func TestEvents_NumberReused(t *testing.T) {
//
// The tag may stand above a test, a benchmark or a fuzz test, above a call of Run that starts
// a subtest, and above an element of a table whose first field, or whose field called name, is
// the name of a subtest. In backend/backendtest it stands above a case, or above a function
// that every case calls.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := run("."); err != nil {
		fmt.Fprintln(os.Stderr, "contractindex:", err)
		os.Exit(1)
	}
}

// run writes the index of the tree at root.
func run(root string) error {
	text, problems, err := index(root)
	if err != nil {
		return err
	}
	for _, problem := range problems {
		fmt.Fprintln(os.Stderr, problem)
	}
	if len(problems) > 0 {
		return fmt.Errorf("nothing is written: %d problems", len(problems))
	}
	return os.WriteFile(filepath.Join(root, indexFile), []byte(text), 0o666)
}
