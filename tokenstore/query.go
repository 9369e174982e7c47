package tokenstore

import (
	"strconv"
	"strings"
)

// query builds the statements of the lists, whose shape depends on the filters.
// Placeholders are numbered, as both databases understand them; values never
// stand in the text.
type query struct {
	text strings.Builder
	args []any
}

func (q *query) add(parts ...string) {
	for _, p := range parts {
		q.text.WriteString(p)
	}
}

// arg adds a value and gives its placeholder.
func (q *query) arg(v any) string {
	q.args = append(q.args, v)
	return "$" + strconv.Itoa(len(q.args))
}

// defaultScanBudget takes some tens of milliseconds, with everything on the disk.
const defaultScanBudget = 5000
