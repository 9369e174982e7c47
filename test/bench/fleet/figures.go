package fleet

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Figures is what was measured.
type Figures struct {
	Options         Options
	Notified, Deaf  *Revocations
	StreamsNotified *Streams
	StreamsDeaf     *Streams
	Suspended       *Suspended
	Outage          *Outage
	Recoveries      []Recovery
	Stale           []Stale
}

// Times is any number of durations.
type Times []time.Duration

// At gives a percentile: the time within which that part of all lies. None is 0.
func (t Times) At(part float64) time.Duration {
	if len(t) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(t))
	return sorted[min(int(part*float64(len(sorted))), len(sorted)-1)]
}

// Worst is the longest.
func (t Times) Worst() time.Duration { return t.At(1) }

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Microseconds())/1000) }

// Table gives the figures as Markdown, all times in milliseconds.
func (f *Figures) Table() string {
	var b strings.Builder
	row := func(what string, t Times) {
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s | %s |\n", what, len(t), ms(t.At(0.5)), ms(t.At(0.95)), ms(t.At(0.99)), ms(t.Worst()))
	}
	b.WriteString("| from the acknowledgement, in ms | samples | median | 95 % | 99 % | worst |\n|---|---|---|---|---|---|\n")
	for _, mode := range []struct {
		name string
		*Revocations
	}{{"notified", f.Notified}, {"notifications dead", f.Deaf}} {
		row("refused by the node that was asked, "+mode.name, mode.Asked)
		var others Times
		for i, t := range mode.Others {
			row(fmt.Sprintf("refused by node %d when another was asked, %s", i+1, mode.name), t)
			others = append(others, t...)
		}
		row("refused by all others, "+mode.name, others)
	}
	for _, mode := range []struct {
		name string
		*Streams
	}{{"notified", f.StreamsNotified}, {"notifications dead", f.StreamsDeaf}} {
		row("WebSocket cut, "+mode.name, mode.WebSocket)
		row("event stream cut, "+mode.name, mode.SSE)
		row("gRPC stream cut, "+mode.name, mode.GRPC)
	}
	b.WriteString("\n| after the store's return, in ms | samples | median | 95 % | 99 % | worst |\n|---|---|---|---|---|---|\n")
	for _, r := range f.Recoveries {
		row("fresh and able to look up, "+r.Fault, r.Fresh)
		row("the first revocation refused, "+r.Fault, r.Revoked)
	}
	b.WriteString("\n| what must not happen | requests | happened |\n|---|---|---|\n")
	revoked := len(f.Notified.Asked) + len(f.Deaf.Asked)
	fmt.Fprintf(&b, "| a revoked token accepted again, once refused | %d | %d |\n", nodes*revoked, f.Notified.Back+f.Deaf.Back)
	fmt.Fprintf(&b, "| accepted by a node that had stood still while the token was revoked | %d | %d |\n", f.Suspended.Asked, f.Suspended.Accepted)
	for _, s := range f.Stale {
		fmt.Fprintf(&b, "| accepted later than `stale_if_unavailable` (%s) without the store, %s; the last one was sent after %.1f s | %d | %d |\n",
			f.Options.Stale, s.Fault, s.Last.Seconds(), s.Asked, s.Accepted)
	}
	o := f.Outage
	fmt.Fprintf(&b, "| a known token refused while the store was frozen for %s; 99 %% within %s ms, before %s ms; median %s, before %s | %d | %d |\n",
		f.Options.Outage, ms(o.While.At(0.99)), ms(o.Before.At(0.99)), ms(o.While.At(0.5)), ms(o.Before.At(0.5)), o.Asked, o.Asked-o.Served)
	return b.String()
}
