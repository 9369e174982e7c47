package caddymodule

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/sallyport/sallyport/api"
)

// printJSON writes the API's own JSON, indented.
func (in *invocation) printJSON(value any) error {
	encoder := json.NewEncoder(in.OutOrStdout())
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// printTable writes rows under a heading.
func (in *invocation) printTable(heading []string, rows [][]string) {
	t := in.newTable()
	t.AppendHeader(tableRow(heading))
	for _, row := range rows {
		t.AppendRow(tableRow(row))
	}
	t.Render()
}

// printRecord writes one record, a line for each field.
func (in *invocation) printRecord(fields [][2]string) {
	t := in.newTable()
	for _, field := range fields {
		t.AppendRow(table.Row{field[0], field[1]})
	}
	t.Render()
}

// printOne writes one record in the form that was asked for.
func (in *invocation) printOne(record any, id string, fields [][2]string) error {
	switch {
	case in.output == outputJSON:
		return in.printJSON(record)
	case in.quiet:
		fmt.Fprintln(in.OutOrStdout(), id)
	default:
		in.printRecord(fields)
	}
	return nil
}

// printList writes a list that comes whole in the form that was asked for.
func printList[T any](in *invocation, items []T, id func(*T) string, heading []string, row func(*T) []string) error {
	return printPage(in, &api.Page[T]{Items: items}, id, heading, row)
}

// newTable makes a table without lines: columns that awk and the eye both read.
func (in *invocation) newTable() table.Writer {
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft = ""
	style.Box.PaddingRight = "  "
	t := table.NewWriter()
	t.SetOutputMirror(in.OutOrStdout())
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	return t
}

func tableRow(cells []string) table.Row {
	row := make(table.Row, len(cells))
	for i, cell := range cells {
		row[i] = cell
	}
	return row
}

// printPage writes one page of a list in the form that was asked for.
func printPage[T any](in *invocation, page *api.Page[T], id func(*T) string, heading []string, row func(*T) []string) error {
	switch {
	case in.output == outputJSON:
		if err := in.printJSON(page); err != nil {
			return err
		}
	case in.quiet:
		for i := range page.Items {
			fmt.Fprintln(in.OutOrStdout(), id(&page.Items[i]))
		}
	default:
		rows := make([][]string, len(page.Items))
		for i := range page.Items {
			rows[i] = row(&page.Items[i])
		}
		in.printTable(heading, rows)
	}
	if page.NextCursor != "" && in.output == outputText {
		in.say("There is more: --cursor %s", page.NextCursor)
	}
	return nil
}

// showTime writes a time to the second; the API's JSON has it whole.
func showTime(t *time.Time, absent string) string {
	if t == nil || t.IsZero() {
		return absent
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

func showList(list []string, absent string) string {
	if len(list) == 0 {
		return absent
	}
	return strings.Join(list, " ")
}

func showText[T ~string](text *T, absent string) string {
	if text == nil || *text == "" {
		return absent
	}
	return string(*text)
}

// showShort cuts a text that would break the table.
func showShort(text string) string {
	const longest = 60
	runes := []rune(text)
	if len(runes) <= longest {
		return text
	}
	return string(runes[:longest-1]) + "…"
}

func showYes(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

func showSeconds(seconds int64) string {
	return (time.Duration(seconds) * time.Second).String()
}
