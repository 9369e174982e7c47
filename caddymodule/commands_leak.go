package caddymodule

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/api"
	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
)

func leakCommands(parent *cobra.Command) {
	in := commonFlags(parent)
	var place, source string
	cmd := in.client(parent, "report FILE|-", "Revokes the tokens of secrets that were found where others can read them", cobra.ExactArgs(1), func(ctx context.Context, c *api.Client, args []string) error {
		found, err := in.readLeaks(args[0])
		if err != nil {
			return err
		}
		return in.reportLeaks(ctx, c, found, place, source)
	})
	cmd.Long = `Revokes the tokens of secrets that were found where others can read them, at once and
for good, and has people told. The secrets are read from a file, or from standard
input with -, one a line; empty lines are left out. Results name them by their line
and never show them.

A retired secret is noted, and its token lives on. Repeating a report does nothing.`
	cmd.Flags().StringVar(&place, "url", "", "where they were found, such as https://example.com/page; only the host is kept")
	cmd.Flags().StringVar(&source, "source", "", "what kind of place that is, in a word of small letters, such as commit")
}

// foundSecret is a secret with the line on which it stands.
type foundSecret struct {
	line   int
	secret api.Secret
}

// The most that is read: what a person has to paste, and not a whole disk.
const maxLeakLines = 100_000

func (in *invocation) readLeaks(name string) ([]foundSecret, error) {
	source := in.InOrStdin()
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			var failed *os.PathError
			if errors.As(err, &failed) {
				err = failed.Err // the name may be a secret in the wrong place
			}
			return nil, fmt.Errorf("open the file with the secrets: %w; secrets are no arguments: put them into a file, or give - and pipe them in", err)
		}
		defer func() { _ = file.Close() }()
		source = file
	}
	return scanLeaks(source)
}

func scanLeaks(r io.Reader) ([]foundSecret, error) {
	var found []foundSecret
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		switch {
		case text == "":
			continue
		case len(text) > token.MaxSecretLength:
			return nil, fmt.Errorf("line %d is longer than any secret: give one secret a line, and nothing else", n)
		case len(found) == maxLeakLines:
			return nil, fmt.Errorf("there are more than %d secrets: give several files", maxLeakLines)
		}
		found = append(found, foundSecret{line: n, secret: api.Secret(text)})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the secrets: %w; give one secret a line", err)
	}
	if len(found) == 0 {
		return nil, errors.New("there is no secret: give one a line")
	}
	return found, nil
}

func (in *invocation) reportLeaks(ctx context.Context, c *api.Client, found []foundSecret, place, source string) error {
	var verdicts []api.LeakVerdict
	for from := 0; from < len(found); from += authority.MaxLeaks {
		var leaks []api.Leak
		for _, f := range found[from:min(from+authority.MaxLeaks, len(found))] {
			leaks = append(leaks, api.Leak{Token: f.secret, URL: place, Source: source})
		}
		some, err := c.ReportLeaks(ctx, leaks)
		if err == nil && len(some) != len(leaks) {
			err = api.ErrUnexpectedAnswer
		}
		if err != nil {
			return fmt.Errorf("%w; give the same command again, which does nothing twice", err)
		}
		verdicts = append(verdicts, some...)
	}
	if in.output == outputJSON {
		return in.printJSON(verdicts)
	}
	var rows [][]string
	revoked := 0
	for i := range verdicts {
		v := &verdicts[i]
		if v.Outcome == authority.LeakRevoked.String() {
			revoked++
		}
		if in.quiet {
			if v.TokenID != "" {
				fmt.Fprintln(in.OutOrStdout(), v.TokenID)
			}
			continue
		}
		rows = append(rows, []string{strconv.Itoa(found[i].line), showText(&v.TokenID, "-"), v.Outcome})
	}
	if !in.quiet {
		in.printTable([]string{"LINE", "TOKEN", "OUTCOME"}, rows)
		in.say("%d of %d: the token was revoked.", revoked, len(verdicts))
	}
	return nil
}
