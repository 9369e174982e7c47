package storecopy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/internal/catalogue"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// Verb is that of the audit entry that a copy ends with.
const Verb = "store.copy"

// Store is a store that was opened for copying.
type Store interface {
	tokenstore.Store
	// Catalogue lists the tables that there are.
	Catalogue(ctx context.Context, conn db.DBTX) (tables []catalogue.Table, marked bool, err error)
}

// Options sets up a copy. Zero values take the defaults named.
type Options struct {
	// Ring holds the master keys of the source, which stay those of the copy.
	// Required.
	Ring *tokenstore.Ring
	// Actor is who the audit log names.
	Actor tokenstore.Actor
	// LiveFor is how long after its last report a gateway counts as running;
	// default 30s, as everywhere.
	LiveFor time.Duration
	// Batch is how many rows go in one transaction; default 2000.
	Batch int
	// Now is the wall clock; default time.Now.
	Now func() time.Time
	// Random names the copy's epoch; default crypto/rand.
	Random io.Reader
	// Step, if set, hears how far the copy is, and Note what else there is to say.
	Step func(Step)
	Note func(text string)
}

// Step tells how far a copy is.
type Step struct {
	Checking    bool // false: rows are copied; true: they are compared
	Table       string
	Done, Total int64 // rows
}

// Report is what was copied.
type Report struct {
	Tables []TableReport
	// Epoch is the one that the feed of the copy begins.
	Epoch string
}

// TableReport is what was found in a table, the same on both sides.
type TableReport struct {
	Table  string
	Rows   int64
	SHA256 string // of all rows in the order of their keys
}

var (
	// ErrSource: the store can not be copied as it is.
	ErrSource = errors.New("the source can not be copied")
	// ErrTarget: the database is no place for a copy.
	ErrTarget = errors.New("the target must be a new, empty database, or hold an unfinished copy of the same store")
	// ErrDiffers: the copy is not the same as the source.
	ErrDiffers = errors.New("the copy differs from the source")
)

// Run copies a store into another one and proves that both are the same. When it
// fails, what it has brought over stays, under a marker that keeps gateways away,
// and another Run goes on with it.
func Run(ctx context.Context, from, to Store, o Options) (Report, error) {
	o.fill()
	c := &copier{ctx: ctx, from: from, to: to, o: o}
	if err := c.run(); err != nil {
		return Report{}, err
	}
	return c.report, nil
}

func (o *Options) fill() {
	if o.LiveFor <= 0 {
		o.LiveFor = 30 * time.Second
	}
	if o.Batch < 1 {
		o.Batch = 2000
	}
	if o.Now == nil {
		o.Now = time.Now //nolint:forbidigo // where the default comes from
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if o.Step == nil {
		o.Step = func(Step) {}
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
}

type copier struct {
	ctx      context.Context
	from, to Store
	o        Options

	source      state
	relations   []relation
	headColumns []catalogue.Column
	marker      marker
	report      Report
}

func (c *copier) run() error {
	if err := c.judgeSource(); err != nil {
		return err
	}
	if err := c.begin(); err != nil {
		return err
	}
	if c.marker.Stage == emptying {
		if err := c.empty(); err != nil {
			return fmt.Errorf("empty the target: %w", err)
		}
	}
	if c.marker.Stage == copying {
		if err := c.reading(c.from, c.copyRows); err != nil {
			return err
		}
	}
	if err := c.check(); err != nil {
		return err
	}
	return c.finish()
}

// reading runs f in a snapshot of a store.
func (c *copier) reading(s Store, f func(side) error) error {
	return s.Read(c.ctx, func(tx *tokenstore.Tx) error { return c.raw(tx, f) })
}

// writing runs f in one transaction on the target, and only while the target is
// as this copy left it. f may run more than once.
func (c *copier) writing(f func(side) error) error {
	return c.to.Write(c.ctx, func(tx *tokenstore.Tx) error {
		return c.raw(tx, func(s side) error {
			if err := c.owned(s); err != nil {
				return err
			}
			return f(s)
		})
	})
}

func (c *copier) raw(tx *tokenstore.Tx, f func(side) error) error {
	return tx.Raw(func(conn db.DBTX, explain func(string, error) error) error {
		return f(side{ctx: c.ctx, conn: conn, explain: explain})
	})
}

// owned says whether nobody else works on the target.
func (c *copier) owned(s side) error {
	m, err := s.readMarker()
	if err != nil {
		return err
	}
	if m.Run != c.marker.Run {
		return errors.New("another process has taken the copy over")
	}
	found, err := s.state()
	if err != nil {
		return err
	}
	want := state{Epoch: found.Epoch, AuditHash: found.AuditHash}
	if m.Stage == checking {
		want = c.source
		want.Epoch = m.Epoch
	}
	if m.Stage != emptying && found != want {
		return fmt.Errorf("%w: another process has written to it meanwhile", ErrTarget)
	}
	return nil
}

// judgeSource says what keeps the source from being copied, before anything is
// written anywhere.
func (c *copier) judgeSource() error {
	err := c.from.Read(c.ctx, func(tx *tokenstore.Tx) error {
		if err := c.idle(tx); err != nil {
			return err
		}
		if err := c.raw(tx, func(s side) (err error) {
			_, marked, err := c.from.Catalogue(c.ctx, s.conn)
			if err != nil {
				return s.explain("list the tables", err)
			}
			if marked {
				return fmt.Errorf("%w: %s", ErrSource, catalogue.Unfinished)
			}
			c.source, err = s.state()
			return err
		}); err != nil {
			return err
		}
		if c.source.Primary == "" {
			return fmt.Errorf("%w: nothing was ever written to it", ErrSource)
		}
		keys, err := tx.MasterKeys()
		if err != nil {
			return err
		}
		if err := c.o.Ring.CheckAgainst(keys); err != nil {
			return fmt.Errorf("%w: %w", ErrSource, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	report, err := tokenstore.VerifyAudit(c.ctx, c.from, c.o.Ring, nil)
	if err != nil {
		return err
	}
	if len(report.Problems) > 0 {
		return fmt.Errorf("%w: its audit log does not hold, see `audit verify`: %s", ErrSource, strings.Join(report.Problems, "; "))
	}
	return nil
}

// idle refuses a source that gateways use: what they change from now on would
// not be in the copy, and a revocation is such a change.
func (c *copier) idle(tx *tokenstore.Tx) error {
	nodes, err := tx.Nodes()
	if err != nil {
		return err
	}
	var live []string
	for _, n := range nodes {
		if age := c.o.Now().Sub(n.SeenAt); age <= c.o.LiveFor {
			live = append(live, fmt.Sprintf("%s (heard of %s ago)", n.ID, max(age, 0).Round(time.Second)))
		}
	}
	if len(live) == 0 {
		return nil
	}
	return fmt.Errorf("%w while gateways use it, because what they change meanwhile would be lost: stop %s; one that ended without a word counts as running for %s",
		ErrSource, strings.Join(live, ", "), c.o.LiveFor)
}

// same says whether the source is as it was when the copy was begun.
func (c *copier) same(s side) error {
	now, err := s.state()
	if err == nil && now != c.source {
		err = fmt.Errorf("%w: it was changed while it was copied; stop whatever writes to it and run this again, which starts over", ErrSource)
	}
	return err
}

// begin takes the target over, from nobody or from a copy before.
func (c *copier) begin() error {
	var run [16]byte
	if _, err := io.ReadFull(c.o.Random, run[:]); err != nil {
		return fmt.Errorf("name the copy: %w", err)
	}
	var fromTables []catalogue.Table
	err := c.reading(c.from, func(s side) (err error) {
		fromTables, _, err = c.from.Catalogue(c.ctx, s.conn)
		return s.explain("list the tables", err)
	})
	if err != nil {
		return err
	}
	var said string
	err = c.to.Write(c.ctx, func(tx *tokenstore.Tx) error {
		return c.raw(tx, func(s side) error {
			tables, marked, err := c.to.Catalogue(c.ctx, s.conn)
			if err != nil {
				return s.explain("list the tables", err)
			}
			if c.relations, c.headColumns, err = relate(fromTables, tables); err != nil {
				return err
			}
			c.marker = marker{Stage: emptying}
			if marked {
				if c.marker, err = s.readMarker(); err != nil {
					return err
				}
				c.marker.Stage, said, err = c.marker.resume(c.source)
			} else if err = c.vacant(s); err == nil {
				err = s.exec("make the marker of the copy", createMarker)
			}
			if err != nil {
				return err
			}
			c.marker.Run, c.marker.Source = hex.EncodeToString(run[:]), c.source
			return s.writeMarker(c.marker)
		})
	})
	if err == nil && said != "" {
		c.o.Note(said)
	}
	return err
}

// vacant says whether a target without a marker is new.
func (c *copier) vacant(s side) error {
	found, err := s.state()
	if err != nil {
		return err
	}
	if !found.unused() {
		return fmt.Errorf("%w: it is a store in use, with %d audit entries", ErrTarget, found.AuditSeq)
	}
	for i := range c.relations {
		r := &c.relations[i]
		if r.seeded {
			continue
		}
		n, err := s.count(r.name)
		if err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("%w: its table %s has %d rows", ErrTarget, r.name, n)
		}
	}
	return nil
}

// empty removes what the migrations or a copy before have put into the target, a
// bounded number of rows at a time.
func (c *copier) empty() error {
	for done := false; !done; {
		next := c.marker
		err := c.writing(func(s side) (err error) {
			if err = s.exec("reset the head", "UPDATE head SET primary_key = NULL, seq = 0, audit_seq = 0 WHERE one = 1"); err != nil {
				return err
			}
			if done, err = c.removeSome(s); err != nil || !done {
				return err
			}
			next.Stage = copying
			return s.writeMarker(next)
		})
		if err != nil {
			return err
		}
		c.marker = next
	}
	return nil
}

// removeSome says whether nothing is left.
func (c *copier) removeSome(s side) (done bool, err error) {
	left := c.o.Batch
	for i := len(c.relations) - 1; i >= 0; i-- {
		n, err := s.remove(&c.relations[i], left)
		if err != nil {
			return false, err
		}
		if left -= int(n); left <= 0 {
			return false, nil
		}
	}
	return true, nil
}

// advance notes in the target that a stage was reached.
func (c *copier) advance(to stage) error {
	next := c.marker
	next.Stage = to
	if err := c.writing(func(s side) error { return s.writeMarker(next) }); err != nil {
		return err
	}
	c.marker = next
	return nil
}

// copyRows brings over what the target lacks.
func (c *copier) copyRows(from side) error {
	if err := c.same(from); err != nil {
		return err
	}
	for i := range c.relations {
		if err := c.copyTable(from, &c.relations[i]); err != nil {
			return err
		}
	}
	return c.copyHead(from)
}

func (c *copier) copyTable(from side, r *relation) error {
	total, err := from.count(r.name)
	if err != nil {
		return err
	}
	// Rows come in the order of their keys, a batch in one transaction: what is
	// there is always all up to some key.
	var (
		done int64
		last []any
	)
	err = c.reading(c.to, func(s side) (err error) {
		if last, err = s.lastKey(r); err == nil && last != nil {
			done, err = s.count(r.name)
		}
		return err
	})
	if err != nil {
		return err
	}
	c.o.Step(Step{Table: r.name, Done: done, Total: total})
	for {
		rows, err := from.page(r, last, c.o.Batch)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return nil
		}
		if err := c.writing(func(s side) error { return s.insert(r, rows) }); err != nil {
			return fmt.Errorf("copy rows of %s: %w", r.name, err)
		}
		last, done = r.keyOf(rows[len(rows)-1]), done+int64(len(rows))
		c.o.Step(Step{Table: r.name, Done: done, Total: total})
	}
}

// copyHead makes the target a store: it has a place in the feed, an end of the
// audit log and a primary key from here on, and an epoch of its own.
func (c *copier) copyHead(from side) error {
	rows, err := from.read("read the head", c.headColumns, "SELECT "+list(c.headColumns, all(c.headColumns), "")+" FROM head WHERE one = 1")
	if err != nil {
		return err
	}
	if len(rows) != 1 {
		return fmt.Errorf("%w: it has no head", ErrSource)
	}
	var epoch [16]byte
	if _, err := io.ReadFull(c.o.Random, epoch[:]); err != nil {
		return fmt.Errorf("draw the epoch: %w", err)
	}
	next := c.marker
	next.Stage, next.Epoch = checking, hex.EncodeToString(epoch[:])
	var (
		sets []string
		args []any
	)
	for i, column := range c.headColumns {
		value := rows[0][i]
		switch column.Name {
		case "one":
			continue
		case "epoch":
			value = next.Epoch
		}
		args = append(args, value)
		sets = append(sets, quoted(column.Name)+" = "+placeholders(len(args), 1))
	}
	err = c.writing(func(s side) error {
		if err := s.exec("write the head", "UPDATE head SET "+strings.Join(sets, ", ")+" WHERE one = 1", args...); err != nil {
			return err
		}
		return s.writeMarker(next)
	})
	if err == nil {
		c.marker = next
	}
	return err
}

// finish takes the marker away, so that the copy can be used. It is the last
// moment to find out that the source was changed.
func (c *copier) finish() error {
	var rows int64
	for _, t := range c.report.Tables {
		rows += t.Rows
	}
	after, err := json.Marshal(map[string]any{"epoch": c.marker.Epoch, "rows": rows})
	if err != nil {
		return err
	}
	before, err := json.Marshal(map[string]any{"epoch": c.source.Epoch})
	if err != nil {
		return err
	}
	err = c.from.Read(c.ctx, func(tx *tokenstore.Tx) error {
		if err := c.idle(tx); err != nil {
			return err
		}
		return c.raw(tx, c.same)
	})
	if err != nil {
		return err
	}
	err = c.to.Write(c.ctx, func(tx *tokenstore.Tx) error {
		err := c.raw(tx, func(s side) error {
			if err := c.owned(s); err != nil {
				return err
			}
			return s.exec("remove the marker of the copy", "DROP TABLE "+catalogue.Marker)
		})
		if err != nil {
			return err
		}
		tx.Audit(tokenstore.AuditEntry{Actor: c.o.Actor, Verb: Verb, Target: c.marker.Epoch, Before: before, After: after})
		return nil
	})
	if errors.Is(err, tokenstore.ErrUnknownOutcome) {
		return fmt.Errorf("%w: run this again; if it then finds a store in use, the copy is complete", err)
	}
	c.report.Epoch = c.marker.Epoch
	return err
}
