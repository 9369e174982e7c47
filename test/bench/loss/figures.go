package loss

import (
	"errors"
	"fmt"
	"strings"
)

// Figures is what was measured.
type Figures struct {
	Options Options

	Kills         int
	Starts        int   // of processes
	Starting      int   // kills while a process started
	Answered      int64 // with 200
	Refused       int64 // with 403, which is use of the token and of no scope
	Forwarded     int64 // that reached the upstream, answered or not
	Unanswered    int64 // the gateway was killed meanwhile, or away
	Unavailable   int64 // answered with 502 or 503
	Facts         int   // token, secret, scope and bucket that a client had an answer for
	Alone         int   // of them, those that no later use stands for: compared one by one
	OnlyForwarded int   // facts of requests that only the upstream can tell of
	Unseen        int   // facts that are missing, with a blind gap in their place
	Missing       []string
	Invented      []string       // uses that nobody made
	Blind         map[string]int // gaps by their reason
}

func (f *Figures) String() string {
	return fmt.Sprintf("%d kills (%d of them at the start), %d answered 200, %d answered 403, %d reached the upstream, %d without an answer, %d unavailable; %d facts, %d of them compared alone, %d that only the upstream knew; missing %d, in a gap %d, invented %d, blind gaps %v",
		f.Kills, f.Starting, f.Answered, f.Refused, f.Forwarded, f.Unanswered, f.Unavailable, f.Facts, f.Alone, f.OnlyForwarded, len(f.Missing), f.Unseen, len(f.Invented), f.Blind)
}

// Err says what went wrong, with a few examples.
func (f *Figures) Err() error {
	some := func(what string, list []string) error {
		if len(list) == 0 {
			return nil
		}
		return fmt.Errorf("seed %d: %d %s, such as:\n%s", f.Options.Seed, len(list), what, strings.Join(list[:min(len(list), 5)], "\n"))
	}
	return errors.Join(some("uses are not in the record", f.Missing), some("uses are in the record that nobody made", f.Invented))
}

// Head is the first lines of a table of figures, as Markdown.
func Head() string {
	return "| store | gateways | journal | kills | while starting | answered 200 | answered 403 | reached the upstream | cut off | facts | compared one by one | missing | invented | blind gaps |\n" +
		"|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n"
}

// Row is one of its lines.
func (f *Figures) Row() string {
	store := "SQLite"
	if f.Options.Server != nil {
		store = "Postgres"
	}
	var gaps []string
	total := 0
	for reason, n := range f.Blind {
		gaps = append(gaps, fmt.Sprintf("%s: %d", reason, n))
		total += n
	}
	blind := fmt.Sprint(total)
	if total > 0 {
		blind += " (" + strings.Join(gaps, ", ") + ")"
	}
	return fmt.Sprintf("| %s | %d | %s | %d | %d | %d | %d | %d | %d | %d | %d | %d | %d | %s |\n",
		store, f.Options.Gateways, f.Options.Journal, f.Kills, f.Starting, f.Answered, f.Refused, f.Forwarded, f.Unanswered,
		f.Facts+f.OnlyForwarded, f.Alone+f.OnlyForwarded, len(f.Missing)+f.Unseen, len(f.Invented), blind)
}
