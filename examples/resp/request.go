package main

import (
	"errors"
	"fmt"

	"github.com/tidwall/redcon"
)

var (
	errArrayLength = errors.New("ERR Protocol error: invalid multibulk length")
	errBulkLength  = errors.New("ERR Protocol error: invalid bulk length")
)

// nextRequest appends the arguments of the first request in b to args, and returns how many bytes
// the request takes: 0 if it is not complete. The arguments are parts of b.
//
// Requests are arrays of strings, whose lengths come from the client. The library's function for
// them panics if a length is negative or near that of the largest int, so it only reads those
// that a person types: words in a line.
func nextRequest(b []byte, args [][]byte) (_ [][]byte, used int, err error) {
	if b[0] != '*' {
		if b[0] == '$' {
			return args, 0, errors.New("ERR Protocol error: expected '*', got '$'")
		}
		complete, args, _, rest, err := redcon.ReadNextCommand(b, args)
		if err != nil {
			return args, 0, fmt.Errorf("ERR %w", err)
		}
		if !complete {
			return args, 0, nil
		}
		return args, len(b) - len(rest), nil
	}
	count, i := length(b, 1)
	if count < 0 {
		return args, 0, errArrayLength
	}
	for ; i > 0 && count > 0; count-- {
		if i == len(b) {
			return args, 0, nil
		}
		if b[i] != '$' {
			return args, 0, fmt.Errorf("ERR Protocol error: expected '$', got '%c'", b[i])
		}
		n, begin := length(b, i+1)
		if n < 0 {
			return args, 0, errBulkLength
		}
		end := begin + n
		if begin == 0 || len(b) < end+2 {
			return args, 0, nil
		}
		if b[end] != '\r' || b[end+1] != '\n' {
			return args, 0, errBulkLength
		}
		args = append(args, b[begin:end])
		i = end + 2
	}
	return args, i, nil
}

// length reads the number from b[i] to the end of the line, and returns where the next line begins:
// 0 if the line is not complete. The number is -1 if it is no length of a request or of its parts.
func length(b []byte, i int) (n, next int) {
	for first := i; i < len(b); i++ {
		switch c := b[i]; {
		case '0' <= c && c <= '9' && n <= maxRequest:
			n = 10*n + int(c-'0')
		case c != '\r' || i == first || n > maxRequest:
			return -1, 0
		case i+1 == len(b):
			return 0, 0
		case b[i+1] != '\n':
			return -1, 0
		default:
			return n, i + 2
		}
	}
	return 0, 0
}
