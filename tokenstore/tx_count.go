package tokenstore

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// Counts are kept in tables that take turns, one for each calendar month: to
// forget a month is to empty a table, which costs the same however full it is.
// The present month and at least the three before it are there.
const countSlots = 4

// month numbers calendar months, in UTC.
func month(t time.Time) int64 {
	t = t.UTC()
	return int64(t.Year())*12 + int64(t.Month()) - 1
}

func slotTable(month int64) string { return "counts_" + strconv.FormatInt(month%countSlots, 10) }

// putCounts adds to what was counted. Counts of months that are gone, or that
// have not come yet, are dropped: a wrong clock must not empty a table.
func (tx *Tx) putCounts(counts []token.Count, now time.Time) error {
	if len(counts) == 0 {
		return nil
	}
	present := month(now)
	byMonth := map[int64][]token.Count{}
	for _, c := range counts {
		// A day's grace, for clocks that differ over the end of a month.
		if m := month(c.Bucket); m > present-countSlots && m <= month(now.Add(24*time.Hour)) {
			byMonth[m] = append(byMonth[m], c)
		}
	}
	held, err := tx.countMonths()
	if err != nil {
		return err
	}
	for m, list := range byMonth {
		if held[m%countSlots] > m {
			continue // its turn is over
		}
		if held[m%countSlots] < m {
			if err := tx.turnCounts(m); err != nil {
				return err
			}
		}
		if err := tx.addCounts(slotTable(m), mergeCounts(list)); err != nil {
			return err
		}
	}
	return nil
}

func (tx *Tx) countMonths() (held [countSlots]int64, err error) {
	rows, err := tx.q.ListCountMonths(tx.ctx)
	if err != nil {
		return held, tx.explain("read the months of counts", err)
	}
	for _, row := range rows {
		if row.Slot < 0 || row.Slot >= countSlots {
			return held, tx.damaged("read the months of counts", errors.New("a slot that there is not"))
		}
		held[row.Slot] = row.Month
	}
	return held, nil
}

// turnCounts empties the table whose turn it is, as a whole and not row by row.
func (tx *Tx) turnCounts(m int64) error {
	empty := tx.o.Empty
	if empty == "" {
		empty = "DELETE FROM " // SQLite drops all pages when there is no condition
	}
	if _, err := tx.db.Exec(tx.ctx, empty+slotTable(m)); err != nil {
		return tx.explain("empty the counts of an old month", err)
	}
	return tx.explain("begin the counts of a month", tx.q.PutCountMonth(tx.ctx, db.PutCountMonthParams{Slot: m % countSlots, Month: m}))
}

func mergeCounts(counts []token.Count) []token.Count {
	sums := make(map[token.Count]int64, len(counts))
	for _, c := range counts {
		n := c.N
		c.N, c.Bucket = 0, c.Bucket.UTC()
		sums[c] += n
	}
	out := make([]token.Count, 0, len(sums))
	for c, n := range sums {
		if n > 0 {
			c.N = n
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b token.Count) int {
		return cmp.Or(cmp.Compare(a.TokenID, b.TokenID), a.Bucket.Compare(b.Bucket), cmp.Compare(a.SecretID, b.SecretID),
			cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Address, b.Address))
	})
	return out
}

func (tx *Tx) addCounts(table string, counts []token.Count) error {
	return inStatements(counts, func(part []token.Count) error {
		b := new(query)
		b.add("INSERT INTO ", table, " (token_id, bucket, secret_id, scope, outcome, address, n) VALUES ")
		for i, c := range part {
			if i > 0 {
				b.add(", ")
			}
			b.add("(", b.arg(string(c.TokenID)), ", ", b.arg(storedTime(c.Bucket)), ", ", b.arg(string(c.SecretID)), ", ",
				b.arg(c.Scope), ", ", b.arg(c.Outcome), ", ", b.arg(c.Address), ", ", b.arg(c.N), ")")
		}
		b.add(" ON CONFLICT (token_id, bucket, secret_id, scope, outcome, address) DO UPDATE SET n = ", table, ".n + excluded.n")
		_, err := tx.db.Exec(tx.ctx, b.text.String(), b.args...)
		return tx.explain("store counts", err)
	})
}

// maxCountRows bounds what one question about a token's counts gives.
const maxCountRows = 50_000

// Counts lists what was counted of a token in buckets that begin in [from, to),
// oldest first. Months that are no longer kept are left out; more is true when
// there was more than one answer holds.
func (tx *Tx) Counts(id token.ID, from, to time.Time) (list []token.Count, more bool, err error) {
	held, err := tx.countMonths()
	if err != nil {
		return nil, false, err
	}
	months := slices.Sorted(slices.Values(held[:]))
	for _, m := range months {
		if m == 0 || m < month(from) || m > month(to) {
			continue
		}
		b := new(query)
		b.add("SELECT bucket, secret_id, scope, outcome, address, n FROM ", slotTable(m), " WHERE token_id = ", b.arg(string(id)),
			" AND bucket >= ", b.arg(storedTime(from)), " AND bucket < ", b.arg(storedTime(to)),
			" ORDER BY bucket, secret_id, scope, outcome, address LIMIT ", b.arg(int64(maxCountRows-len(list)+1)))
		rows, err := tx.db.Query(tx.ctx, b.text.String(), b.args...)
		if err != nil {
			return nil, false, tx.explain("read counts", err)
		}
		for rows.Next() {
			c, bucket := token.Count{TokenID: id}, int64(0)
			var secret string
			if err := rows.Scan(&bucket, &secret, &c.Scope, &c.Outcome, &c.Address, &c.N); err != nil {
				rows.Close()
				return nil, false, tx.explain("read counts", err)
			}
			c.Bucket, c.SecretID = loadTime(bucket), token.ID(secret)
			list = append(list, c)
		}
		rows.Close()
		if err := rows.Err(); err != nil {
			return nil, false, tx.explain("read counts", err)
		}
		if len(list) > maxCountRows {
			return list[:maxCountRows], true, nil
		}
	}
	return list, false, nil
}

// CountsSince is the first moment that counts are kept from; zero when none are.
func (tx *Tx) CountsSince() (time.Time, error) {
	held, err := tx.countMonths()
	if err != nil {
		return time.Time{}, err
	}
	oldest := int64(0)
	for _, m := range held {
		if m > 0 && (oldest == 0 || m < oldest) {
			oldest = m
		}
	}
	if oldest == 0 {
		return time.Time{}, nil
	}
	return time.Date(int(oldest/12), time.Month(oldest%12+1), 1, 0, 0, 0, 0, time.UTC), nil
}
