package token

import (
	"errors"
	"math/bits"
	"slices"
)

// methodNames are the methods of IANA's HTTP Method Registry, and QUERY. Left
// out on purpose: TRACE, which shows a request's headers to whoever sent it,
// credential included; CONNECT, which asks for a tunnel; PRI and `*`, which are
// registered only so that nobody uses them.
var methodNames = [...]string{
	"ACL", "BASELINE-CONTROL", "BIND", "CHECKIN", "CHECKOUT", "COPY", "DELETE",
	"GET", "HEAD", "LABEL", "LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR",
	"MKCOL", "MKREDIRECTREF", "MKWORKSPACE", "MOVE", "OPTIONS", "ORDERPATCH",
	"PATCH", "POST", "PROPFIND", "PROPPATCH", "PUT", "QUERY", "REBIND", "REPORT",
	"SEARCH", "UNBIND", "UNCHECKOUT", "UNLINK", "UNLOCK", "UPDATE",
	"UPDATEREDIRECTREF", "VERSION-CONTROL",
}

// methodSet has a bit for each of methodNames, and one for all other methods.
type methodSet uint64

const (
	anyMethod   = ^methodSet(0)
	otherMethod = methodSet(1) << 63
)

// RegisteredMethod says whether a gate lets a method through to be judged. All
// others, those in lower case included, are refused with 405.
func RegisteredMethod(method string) bool { return methodBit(method) != otherMethod }

func methodBit(method string) methodSet {
	if i, found := slices.BinarySearch(methodNames[:], method); found {
		return 1 << i
	}
	return otherMethod
}

// parseMethods reads the methods that a line names.
func parseMethods(methods []string) (methodSet, error) {
	var set methodSet
	for _, method := range methods {
		bit := methodBit(method)
		if bit == otherMethod {
			return 0, errors.New("names a method that is not a registered HTTP method in upper case, or that no gate lets through (TRACE, CONNECT): " +
				"correct it, or name no method to cover all")
		}
		set |= bit
	}
	if set&methodBit("HEAD") != 0 && set&methodBit("GET") == 0 {
		return 0, errors.New("names HEAD without GET, but HEAD always needs what GET needs: name GET, which covers both")
	}
	return set, nil
}

// split gives the set's methods one by one.
func (s methodSet) split() []methodSet {
	single := make([]methodSet, 0, bits.OnesCount64(uint64(s)))
	for ; s != 0; s &= s - 1 {
		single = append(single, s&-s)
	}
	return single
}
