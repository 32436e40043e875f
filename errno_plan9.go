package epore

import "errors"

// errBadDescriptor takes the place of an errno that Plan 9 does not have.
var errBadDescriptor = errors.New("bad descriptor")
