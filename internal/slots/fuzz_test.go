package slots

import (
	"testing"

	"github.com/epore/epore/backend"
)

// FuzzTable applies a random sequence of operations, one for each pair of bytes, and
// compares the table with a map of the registrations and a list of all keys that ever were
// valid. A key is either current, and then yields its token and interest, or it is stale.
func FuzzTable(f *testing.F) {
	f.Add([]byte{0, 1, 0, 2, 1, 1, 2, 2, 0, 1, 3, 0, 4, 0})
	f.Add([]byte{0, 0, 5, 0, 4, 0, 5, 0, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) > 400 {
			program = program[:400]
		}
		type registration struct {
			key      backend.Key
			token    uint64
			interest backend.Interest
			records  bool
			given    bool
		}
		var table Table
		current := make(map[backend.Handle]*registration)
		var keys []backend.Key
		token := uint64(0)
		for ; len(program) >= 2; program = program[2:] {
			h := backend.Handle(program[1] % 8)
			r, token1 := current[h], token+1
			i, registered := table.Lookup(h)
			if registered != (r != nil) || registered && i != Index(r.key) {
				t.Fatalf("Lookup(%d) = %d, %v", h, i, registered)
			}
			switch program[0] % 6 {
			case 0: // register
				if r == nil {
					token = token1
					in := backend.Interest(program[1]>>4) & backend.Conditions
					r = &registration{key: table.Insert(h, token, in), token: token, interest: in}
					table.Bind(h, Index(r.key))
					current[h] = r
					keys = append(keys, r.key)
				}
			case 1: // deregister
				if r != nil {
					table.Unbind(h)
					table.Remove(i)
					delete(current, h)
				}
			case 2: // reregister
				if r != nil && !r.records {
					token = token1
					next := table.NextKey(i)
					table.Replace(i, token, backend.Writable)
					*r = registration{key: next, token: token, interest: backend.Writable}
					keys = append(keys, next)
				}
			case 3: // look at all keys
				for _, k := range keys {
					var want *registration
					for _, r := range current {
						if r.key == k {
							want = r
						}
					}
					in, ok := table.Interest(k)
					if ok != (want != nil) || ok && in != want.interest {
						t.Fatalf("Interest(%x) = %v, %v; want %+v", k, in, ok, want)
					}
					got, ok := table.Token(k)
					if ok != (want != nil) || ok && got != want.token {
						t.Fatalf("Token(%x) = %d, %v; want %+v", k, got, ok, want)
					}
					if want != nil {
						want.given = true
					}
				}
			case 4: // record deliveries
				if r != nil && !r.records {
					table.RecordDeliveries(r.key)
					r.records, r.given = true, false
					r.interest |= RecordsDelivery
				}
			case 5: // renew
				if r != nil && r.records {
					next, given := table.Renew(r.key)
					if given != r.given {
						t.Fatalf("Renew(%x) says %v; the event was delivered: %v", r.key, given, r.given)
					}
					r.key, r.given = next, false
					keys = append(keys, next)
				}
			}
		}
		if int(table.used) > 8 {
			t.Fatalf("%d slots for 8 handles", table.used)
		}
	})
}
