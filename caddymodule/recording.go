package caddymodule

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/usage"
)

// recording is what is noted of one request's use of its token.
type recording struct {
	activity *activity
	request  usage.Request
	// renewAt is when a request that lasts is noted again, in nanoseconds since 1970:
	// a stream that is open over midnight uses its token on both days. The sweep and
	// the request's own end may both come to it. 0: it is not.
	renewAt atomic.Int64
}

// note records a decision before anything follows from it: the request goes
// upstream, or its refusal is answered, only after its use can not be lost any
// more. The refusal says that this could not be made sure.
func (rec *recording) note(a *activity, record *tokenstore.Record, f *requestFacts, reason token.Reason, now time.Time) *refusal {
	if reason == undecided {
		return nil
	}
	rec.request = usage.Request{
		TokenID: record.Token.ID, SecretID: record.Secret.ID, Scope: f.required, Address: f.address, At: now,
	}
	var err error
	if reason == token.Allowed {
		rec.activity = a
		rec.renewAt.Store(a.nextBucket(now).UnixNano())
		err = a.recorder.Use(&rec.request, true)
	} else {
		err = a.recorder.Refuse(&rec.request, reason)
	}
	if err != nil {
		return refuse(problemStoreUnavailable)
	}
	return nil
}

// renew notes a request that goes on, once in each bucket.
func (rec *recording) renew(now time.Time) {
	due := rec.renewAt.Load()
	if due == 0 || now.UnixNano() < due || !rec.renewAt.CompareAndSwap(due, rec.activity.nextBucket(now).UnixNano()) {
		return
	}
	request := rec.request
	request.At = now
	// What cannot be written is a gap by then, which protects the token.
	_ = rec.activity.recorder.Use(&request, true)
}

// count counts a refusal of a credential that no token is known by.
func (a *activity) count(f *refusal, address netip.Addr, now time.Time) {
	a.recorder.Count(&usage.Request{Address: address, At: now}, f.problem.code)
}

// nextBucket is when the bucket of a time ends.
func (a *activity) nextBucket(now time.Time) time.Time {
	length := a.length()
	return now.Truncate(length).Add(length)
}
