package system

import "errors"

// BadDescriptor takes the place of an errno that Plan 9 does not have.
var BadDescriptor = errors.New("bad descriptor")
