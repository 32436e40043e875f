// Package nilvalue tells a usable interface value from one that holds nothing.
package nilvalue

import "reflect"

// Is reports whether v is nil, or holds a nil pointer.
func Is(v any) bool {
	x := reflect.ValueOf(v)
	return !x.IsValid() || x.Kind() == reflect.Pointer && x.IsNil()
}
