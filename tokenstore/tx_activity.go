package tokenstore

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// rowsAtOnce are the numbers of rows that one statement writes. Few different
// statements are few to prepare, and each stays below the number of parameters
// that databases take.
var rowsAtOnce = [...]int{256, 32, 4, 1}

// inStatements gives the rows in parts that each are one statement.
func inStatements[T any](rows []T, write func([]T) error) error {
	for _, n := range rowsAtOnce {
		for len(rows) >= n {
			if err := write(rows[:n]); err != nil {
				return err
			}
			rows = rows[n:]
		}
	}
	return nil
}

// PutActivity stores activity with its run's watermark. Facts and gaps merge, so
// that storing them again changes nothing; counts of a batch that was stored
// before are left out. ErrNotFound: no such run; it has to be begun anew.
func (tx *Tx) PutActivity(a token.Activity) error {
	if err := tx.ready(); err != nil {
		return err
	}
	run, err := tx.q.GetRun(tx.ctx, db.GetRunParams{ID: string(a.Run)})
	if err != nil {
		return tx.explain("store activity", err)
	}
	now, err := tx.Time()
	if err != nil {
		return err
	}
	if err := tx.putFacts(a.Facts); err != nil {
		return err
	}
	if a.Seq > uint64(run.Seq) {
		if err := tx.putCounts(a.Counts, now); err != nil {
			return err
		}
	}
	// Nobody can have seen, or missed, what is still to come. A gateway whose clock is
	// ahead would otherwise end its blind time in a year, or be taken to have told of
	// requests that it has not even let pass.
	if a.Covered.After(now) {
		a.Covered = now
	}
	for _, g := range a.Gaps {
		if g.To.After(now) {
			g.To = now
		}
		if g.From.After(g.To) {
			g.From = g.To
		}
		err := tx.q.PutGap(tx.ctx, db.PutGapParams{
			RunID: string(a.Run), FromAt: storedTime(g.From), ToAt: storedTime(g.To), Reason: g.Reason,
		})
		if err != nil {
			return tx.explain("store a gap", err)
		}
	}
	n, err := tx.q.CoverRun(tx.ctx, db.CoverRunParams{
		ID: string(a.Run), Covered: storedTime(a.Covered), ContactAt: storedTime(now), Seq: int64(a.Seq),
	})
	return tx.one("store activity", n, err)
}

// factKey is what the row of a fact is found by.
type factKey struct{ token, secret, scope string }

// mergeFacts gives one row for each key, in the order of keys, so that two
// transactions never wait for each other in a circle.
func mergeFacts(facts []token.Fact) ([]db.Use, error) {
	rows := make(map[factKey]db.Use, len(facts))
	for i := range facts {
		f := &facts[i]
		if f.TokenID == "" || f.SecretID == "" || f.First.IsZero() || f.Until.IsZero() {
			return nil, errors.New("tokenstore: a fact without token, secret or time")
		}
		nature := ""
		if f.Scope.Name != "" {
			var err error
			if nature, err = storedEnum(f.Scope.Nature); err != nil {
				return nil, fmt.Errorf("store a fact: %w", err)
			}
		}
		key := factKey{string(f.TokenID), string(f.SecretID), f.Scope.Name}
		row, ok := rows[key]
		first, until := storedTime(f.First), storedTime(f.Until)
		switch {
		case !ok:
			row = db.Use{
				TokenID: key.token, SecretID: key.secret, Scope: key.scope, Nature: nature,
				FirstAt: first, LastAt: first, Until: until,
			}
		case until > row.Until:
			row.LastAt, row.Until, row.Nature = first, until, nature
		case until == row.Until:
			row.LastAt = min(row.LastAt, first)
			row.Nature = stricter(row.Nature, nature)
		}
		row.FirstAt = min(row.FirstAt, first)
		rows[key] = row
	}
	out := make([]db.Use, 0, len(rows))
	for _, row := range rows {
		out = append(out, row)
	}
	slices.SortFunc(out, func(a, b db.Use) int {
		return cmp.Or(cmp.Compare(a.TokenID, b.TokenID), cmp.Compare(a.SecretID, b.SecretID), cmp.Compare(a.Scope, b.Scope))
	})
	return out, nil
}

// stricter is write when either is: gates may have judged a scope differently
// while its nature was being changed.
func stricter(a, b string) string {
	if b == token.Write.String() {
		return b
	}
	return a
}

func (tx *Tx) putFacts(facts []token.Fact) error {
	rows, err := mergeFacts(facts)
	if err != nil {
		return err
	}
	return inStatements(rows, func(part []db.Use) error {
		b := new(query)
		b.add("INSERT INTO uses (token_id, secret_id, scope, nature, first_at, last_at, until) VALUES ")
		for i, r := range part {
			if i > 0 {
				b.add(", ")
			}
			b.add("(", b.arg(r.TokenID), ", ", b.arg(r.SecretID), ", ", b.arg(r.Scope), ", ", b.arg(r.Nature), ", ",
				b.arg(r.FirstAt), ", ", b.arg(r.LastAt), ", ", b.arg(r.Until), ")")
		}
		b.add(` ON CONFLICT (token_id, secret_id, scope) DO UPDATE SET
 first_at = CASE WHEN excluded.first_at < uses.first_at THEN excluded.first_at ELSE uses.first_at END,
 nature = CASE WHEN excluded.until > uses.until OR excluded.until = uses.until AND excluded.nature = 'write' THEN excluded.nature ELSE uses.nature END,
 last_at = CASE WHEN excluded.until > uses.until OR excluded.until = uses.until AND excluded.last_at < uses.last_at THEN excluded.last_at ELSE uses.last_at END,
 until = CASE WHEN excluded.until > uses.until THEN excluded.until ELSE uses.until END`)
		_, err := tx.db.Exec(tx.ctx, b.text.String(), b.args...)
		return tx.explain("store facts of use", err)
	})
}

// Uses lists what is known of a token's use, by scope and secret.
func (tx *Tx) Uses(id token.ID) ([]SecretUse, error) {
	rows, err := tx.q.ListUses(tx.ctx, db.ListUsesParams{TokenID: string(id)})
	if err != nil {
		return nil, tx.explain("read a token's use", err)
	}
	uses := make([]SecretUse, len(rows))
	for i, row := range rows {
		uses[i] = SecretUse{
			SecretID: token.ID(row.SecretID), First: loadTime(row.FirstAt), Last: loadTime(row.LastAt), Until: loadTime(row.Until),
		}
		if uses[i].Scope, err = loadUsedScope(row.Scope, row.Nature); err != nil {
			return nil, tx.damaged("read the use of token "+row.TokenID, err)
		}
	}
	return uses, nil
}

// SecretUse is the use of one secret for one scope.
type SecretUse struct {
	SecretID token.ID
	Scope    token.Scope // zero: it only authenticated
	First    time.Time   // ever
	Last     time.Time   // the first in the latest bucket
	Until    time.Time   // the end of that bucket
}

func loadUsedScope(name, nature string) (token.Scope, error) {
	s := token.Scope{Name: name}
	if name == "" {
		return s, nil
	}
	err := s.Nature.UnmarshalText([]byte(nature))
	return s, err
}

// Use merges what is known of a token's use over its secrets.
func (tx *Tx) Use(id token.ID) (token.Use, error) {
	rows, err := tx.Uses(id)
	if err != nil {
		return token.Use{}, err
	}
	var u token.Use
	for i := range rows {
		addUse(&u, rows[i].Scope, rows[i].Until)
	}
	return u, nil
}

// addUse takes rows in the order of scopes.
func addUse(u *token.Use, scope token.Scope, until time.Time) {
	if until.After(u.Last) {
		u.Last = until
	}
	if scope.Name == "" {
		return
	}
	if n := len(u.Scopes); n > 0 && u.Scopes[n-1].Scope.Name == scope.Name {
		last := &u.Scopes[n-1]
		if until.After(last.Last) {
			last.Last = until
		}
		if scope.Nature == token.Write {
			last.Scope.Nature = token.Write
		}
		return
	}
	u.Scopes = append(u.Scopes, token.ScopeUse{Scope: scope, Last: until})
}
