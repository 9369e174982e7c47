// Package usage remembers what tokens were used for, so that nothing that was used
// is ever called unused.
//
// A Recorder sits on the path of a request. The first use of a token, secret and
// scope in a bucket of time is a fact: it is in a journal on the local disk before
// the request goes on. Every later use in that bucket costs a lookup and a counter
// in memory. In the background facts, counts and gaps are handed to a Sink in
// batches, each with the moment up to which everything has been handed over.
//
// Facts are a set: telling one twice changes nothing, losing one is the only harm.
// So whatever is in doubt is told again, and time in which a fact may have been
// lost is reported as a blind gap. The package never hides that it saw nothing.
//
// Journals hold IDs, scope names and times. They hold no secret and no address.
package usage
