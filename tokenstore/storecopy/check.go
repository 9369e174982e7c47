package storecopy

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/tokenstore"
)

// checkPage is how many rows of each side are compared at a time. It differs from
// the batches on purpose: a row at the edge of one is not at the edge of the other.
const checkPage = 701

// check compares both sides row by row, in code that shares nothing with the
// code that has copied them but the names of the columns, and then asks the copy
// the questions that a gateway asks at its start.
func (c *copier) check() error {
	err := c.reading(c.from, func(from side) error {
		if err := c.same(from); err != nil {
			return err
		}
		return c.reading(c.to, func(to side) error { return c.compare(from, to) })
	})
	if err == nil {
		err = c.judgeCopy()
	}
	if errors.Is(err, ErrDiffers) {
		// The next attempt starts over instead of finding the same again.
		err = errors.Join(err, c.advance(differs))
	}
	return err
}

func (c *copier) compare(from, to side) error {
	c.report.Tables = nil
	for i := range c.relations {
		r := &c.relations[i]
		found, err := c.compareTable(from, to, r)
		if err != nil {
			return err
		}
		c.report.Tables = append(c.report.Tables, found)
	}
	return c.compareHead(from, to)
}

func (c *copier) compareTable(from, to side, r *relation) (TableReport, error) {
	ours, theirs, err := counts(from, to, r.name)
	if err != nil {
		return TableReport{}, err
	}
	c.o.Step(Step{Checking: true, Table: r.name, Total: ours})
	left, right := walk{side: from, r: r}, walk{side: to, r: r}
	sums := [2]hash.Hash{sha256.New(), sha256.New()}
	for {
		a, err := left.next()
		if err != nil {
			return TableReport{}, err
		}
		b, err := right.next()
		if err != nil {
			return TableReport{}, err
		}
		if a == nil && b == nil {
			break
		}
		if err := judgeRows(r, a, b); err != nil {
			return TableReport{}, err
		}
		sums[0].Write(canonical(a))
		sums[1].Write(canonical(b))
		if left.rows%checkPage == 0 {
			c.o.Step(Step{Checking: true, Table: r.name, Done: left.rows, Total: ours})
		}
	}
	digest := sums[0].Sum(nil)
	switch {
	case left.rows != ours || right.rows != theirs || ours != theirs:
		return TableReport{}, fmt.Errorf("%w: the table %s has %d rows in the source and %d in the copy, and of them %d and %d were found in order",
			ErrDiffers, r.name, ours, theirs, left.rows, right.rows)
	case !bytes.Equal(digest, sums[1].Sum(nil)):
		return TableReport{}, fmt.Errorf("%w: the table %s has another digest", ErrDiffers, r.name)
	}
	c.o.Step(Step{Checking: true, Table: r.name, Done: ours, Total: ours})
	return TableReport{Table: r.name, Rows: ours, SHA256: hex.EncodeToString(digest)}, nil
}

func counts(from, to side, table string) (ours, theirs int64, err error) {
	if ours, err = from.count(table); err == nil {
		theirs, err = to.count(table)
	}
	return ours, theirs, err
}

// judgeRows says what tells two rows apart, naming the first key that does and
// never a value.
func judgeRows(r *relation, a, b []any) error {
	switch {
	case b == nil || a != nil && compareKeys(r.keyOf(a), r.keyOf(b)) < 0:
		return fmt.Errorf("%w: the table %s lacks the row %s in the copy", ErrDiffers, r.name, r.describe(r.keyOf(a)))
	case a == nil || compareKeys(r.keyOf(a), r.keyOf(b)) > 0:
		return fmt.Errorf("%w: the table %s has the row %s in the copy only", ErrDiffers, r.name, r.describe(r.keyOf(b)))
	}
	var columns []string
	for i, c := range r.columns {
		if !bytes.Equal(canonical(a[i:i+1]), canonical(b[i:i+1])) {
			columns = append(columns, c.Name)
		}
	}
	if len(columns) > 0 {
		return fmt.Errorf("%w: the table %s, row %s: %s", ErrDiffers, r.name, r.describe(r.keyOf(a)), strings.Join(columns, ", "))
	}
	return nil
}

// compareHead compares all of the head but the epoch.
func (c *copier) compareHead(from, to side) error {
	var rows [2][]any
	for i, s := range []side{from, to} {
		w := walk{side: s, r: &relation{table: table{name: head}, columns: c.headColumns}}
		if err := w.r.findKey(); err != nil {
			return err
		}
		row, err := w.next()
		if err != nil {
			return err
		}
		if row == nil {
			return fmt.Errorf("%w: the head is missing", ErrDiffers)
		}
		rows[i] = row
	}
	for i, column := range c.headColumns {
		want := rows[0][i]
		if column.Name == "epoch" {
			want = c.marker.Epoch
		}
		if !bytes.Equal(canonical([]any{want}), canonical(rows[1][i:i+1])) {
			return fmt.Errorf("%w: the head's %s", ErrDiffers, column.Name)
		}
	}
	return nil
}

// judgeCopy asks whether the copy's audit log holds and whether the ring fits it.
func (c *copier) judgeCopy() error {
	report, err := tokenstore.VerifyAudit(c.ctx, c.to, c.o.Ring, nil)
	if err != nil {
		return err
	}
	if len(report.Problems) > 0 {
		return fmt.Errorf("%w: the audit log does not hold in the copy: %s", ErrDiffers, strings.Join(report.Problems, "; "))
	}
	return c.to.Read(c.ctx, func(tx *tokenstore.Tx) error {
		keys, err := tx.MasterKeys()
		if err != nil {
			return err
		}
		if err := c.o.Ring.CheckAgainst(keys); err != nil {
			return fmt.Errorf("%w: %w", ErrDiffers, err)
		}
		return nil
	})
}

// walk goes over a table in the order of its keys. It takes what the driver gives
// for each column, without being told what to expect.
type walk struct {
	side
	r    *relation
	page [][]any
	last []any
	rows int64
}

// next gives the next row; nil after the last.
func (w *walk) next() ([]any, error) {
	if len(w.page) == 0 {
		if err := w.fetch(); err != nil || len(w.page) == 0 {
			return nil, err
		}
	}
	row := w.page[0]
	w.page = w.page[1:]
	key := w.r.keyOf(row)
	if w.last != nil && compareKeys(w.last, key) >= 0 {
		return nil, fmt.Errorf("%w: the table %s does not come in the order of its keys", ErrDiffers, w.r.name)
	}
	w.last = key
	w.rows++
	return row, nil
}

func (w *walk) fetch() error {
	doing := "compare the table " + w.r.name
	names := make([]string, len(w.r.columns))
	for i, c := range w.r.columns {
		names[i] = quoted(c.Name)
	}
	keys := make([]string, len(w.r.key))
	for i, at := range w.r.key {
		keys[i] = names[at]
	}
	where := ""
	if w.last != nil {
		where = " WHERE (" + strings.Join(keys, ", ") + ") > (" + placeholders(1, len(keys)) + ")"
	}
	rows, err := w.conn.Query(w.ctx, "SELECT "+strings.Join(names, ", ")+" FROM "+quoted(w.r.name)+where+
		" ORDER BY "+strings.Join(keys, ", ")+" LIMIT "+strconv.Itoa(checkPage), w.last...)
	if err != nil {
		return w.explain(doing, err)
	}
	defer rows.Close()
	for rows.Next() {
		row := make([]any, len(names))
		into := make([]any, len(names))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return w.explain(doing, err)
		}
		w.page = append(w.page, row)
	}
	return w.explain(doing, rows.Err())
}

// canonical writes values so that different ones never give the same bytes.
func canonical(row []any) []byte {
	var out []byte
	sized := func(tag byte, content []byte) {
		out = binary.BigEndian.AppendUint64(append(out, tag), uint64(len(content)))
		out = append(out, content...)
	}
	for _, value := range row {
		switch v := value.(type) {
		case nil:
			out = append(out, 'n')
		case int64:
			out = binary.BigEndian.AppendUint64(append(out, 'i'), uint64(v))
		case string:
			sized('t', []byte(v))
		case []byte:
			sized('b', v)
		default:
			// Of no kind that a column here has: what it says must not pass for one.
			sized('?', fmt.Appendf(nil, "%T", v))
		}
	}
	return out
}
