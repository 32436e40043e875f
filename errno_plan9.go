package epore

import "errors"

// errBadDescriptor stands in for an errno that Plan 9 does not have.
var errBadDescriptor = errors.New("bad descriptor")
