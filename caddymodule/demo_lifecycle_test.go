package caddymodule_test

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// lifeEnds is longer than the demo itself waits for anything.
const lifeEnds = 6 * time.Minute

// told is one line of the story.
type told struct {
	moment           float64
	who, about, what string
}

var toldLine = regexp.MustCompile(`(?m)^ *(\d+\.\d) s  (\w+) +(\S+) +(.+)$`)

func storyOf(t *testing.T, output string) (story []told) {
	t.Helper()
	for _, match := range toldLine.FindAllStringSubmatch(output, -1) {
		moment, err := strconv.ParseFloat(match[1], 64)
		require.NoError(t, err)
		story = append(story, told{moment, match[2], match[3], match[4]})
	}
	return story
}

// waitLong is waitFor, for what the demo itself gives up in time.
func waitLong(t *testing.T, p *process, what string, holds func() bool) {
	t.Helper()
	for limit := time.Now().Add(lifeEnds); !holds(); time.Sleep(50 * time.Millisecond) {
		select {
		case <-p.ended:
			if holds() {
				return
			}
			t.Fatalf("the demo ended before %s; it said:\n%s", what, p.output)
		default:
		}
		if time.Now().After(limit) {
			t.Fatalf("waited %s in vain for %s; it said:\n%s", lifeEnds, what, p.output)
		}
	}
}

// M2 to M9, L1, L2, L4 to L6: the demo shows them with the real gateway, tells them
// in the order in which they happen, and ends by itself.
func TestALifeInAMinuteIsToldToItsEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	temp := filepath.Join(dir, "temp")
	require.NoError(t, os.Mkdir(temp, 0o700))
	p := launch(t, append(homeless(dir), "TMPDIR="+temp), dir, "demo", "--lifecycle", "--mails", "--listen", freeAddress(t), "--admin", freeAddress(t))
	waitLong(t, p, "the first mail", func() bool { return strings.Contains(p.output.String(), "will lose permissions") })
	page := regexp.MustCompile(`Mailbox +(http://\S+)`).FindStringSubmatch(p.output.String())
	require.NotNil(t, page)
	status, body := fetch(t, http.MethodGet, page[1], "", "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "Subject: ")
	require.Contains(t, body, "On ")

	waitLong(t, p, "its end", func() bool {
		select {
		case <-p.ended:
			return true
		default:
			return false
		}
	})
	output := p.output.String()
	require.Zero(t, p.exitCode(t), output)

	story := storyOf(t, output)
	for i := 1; i < len(story); i++ {
		require.LessOrEqual(t, story[i-1].moment, story[i].moment, "told as it happens")
	}
	for about, want := range map[string][]told{
		"checkout": {{who: "gate", what: "POST 201"}, {who: "gate", what: "POST 201 still; read_write"}},
		"dashboard": {
			{who: "gate", what: "POST 201"},
			{who: "mail", what: "to ada@example.com: API token ending in"},
			{who: "gate", what: "Sallyport-Scheduled: downgrade; at="},
			{who: "mail", what: "lost permissions that it did not use"},
			{who: "gate", what: "POST 403 read_only_token, downgraded_at "},
			{who: "operator", what: "token undo-downgrade tok_"},
			{who: "gate", what: "POST 201 again"},
		},
		"old-export": {
			{who: "gate", what: "GET 200"},
			{who: "mail", what: "will be deleted on"},
			{who: "mail", what: "was deleted"},
			{who: "gate", what: "GET 401 revoked_token"},
		},
		"month-end": {
			{who: "gate", what: "GET 200"},
			{who: "mail", what: "will be deleted on"},
			{who: "gate", what: "GET 200"},
			{who: "mail", what: "will not be deleted"},
		},
		"backup": {
			{who: "gate", what: "GET 200"},
			{who: "mail", what: "will be deleted on"},
			{who: "mail", what: "was deleted"},
			{who: "gate", what: "GET 401 revoked_token"},
			{who: "operator", what: "token restore tok_"},
			{who: "gate", what: "GET 200 again"},
		},
	} {
		next := 0
		for _, line := range story {
			if next < len(want) && line.about == about && line.who == want[next].who && strings.Contains(line.what, want[next].what) {
				next++
			}
		}
		require.Equal(t, len(want), next, "%s: the story lacks %+v\n%s", about, want[min(next, len(want)-1)], output)
		require.Regexp(t, `(?m)^  `+about+` +\S.*\S$`, output[strings.Index(output, "What came of them"):])
	}
	require.NotRegexp(t, `sp_live_\w{49}`, output, "no secret is shown")
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	require.Empty(t, left, "it leaves nothing behind")
}

func TestALifeGoesOnWhenAskedTo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	folder := filepath.Join(dir, "kept")
	p := launch(t, homeless(dir), dir, "demo", "--lifecycle", "--keep", "--dir", folder, "--listen", freeAddress(t), "--admin", freeAddress(t))
	waitLong(t, p, "the summary", func() bool { return strings.Contains(p.output.String(), "Ctrl-C ends the demo") })
	admin := regexp.MustCompile(`--address (\S+)`).FindStringSubmatch(p.output.String())
	require.NotNil(t, admin)
	status, body := fetch(t, http.MethodGet, "http://"+admin[1]+"/sallyport/v1/notices", "", "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "deletion_cancelled")
	require.Zero(t, p.interrupt(t))
	require.FileExists(t, filepath.Join(folder, "Caddyfile"))
}
