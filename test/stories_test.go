package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"github.com/rogpeppe/go-internal/testscript"
)

// storiesDir holds a story for each vendor, which goes through the vendor's document
// in its order. docs/rules.md names the story of each rule.
const storiesDir = "../testdata/stories"

// The documents of the vendors, told with the program as it is shipped, a real
// mail server, and requests through a gate.
func TestStoriesOfTheVendors(t *testing.T) {
	upstream := httpbinUpstream(t)
	testscript.Run(t, testscript.Params{
		Dir: storiesDir,
		Setup: func(e *testscript.Env) error {
			box, relay := openMailbox(t)
			e.Values[storyKey{}] = &story{box: box, apps: map[string]*authenticatorApp{}}
			for name, value := range map[string]string{
				"HOME":            e.WorkDir,
				"XDG_DATA_HOME":   filepath.Join(e.WorkDir, "data"),
				"XDG_CONFIG_HOME": filepath.Join(e.WorkDir, "config"),
				"PATH":            filepath.Dir(binary) + string(filepath.ListSeparator) + os.Getenv("PATH"),
				"ADMIN":           freeAddress(t),
				"GATE":            freeAddress(t),
				"SANDBOX":         freeAddress(t),
				"UPSTREAM":        upstream,
				"MAIL":            relay,
				"LATER":           time.Now().AddDate(0, 0, 60).UTC().Format(time.RFC3339),
			} {
				e.Setenv(name, value)
			}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"expands": only(1, 1, "expands FILE: replaces ${VARIABLES}", expandStory),
			"ready":   only(0, 0, "ready: waits for the gateway", awaitGateway),
			"people":  only(1, -1, "people NAME=ROLE...: an account, and its users as NAME@example.com", makePeople),
			"request": only(3, 4, "request STATUS[:CODE] METHOD PATH|URL [SECRET]", sendRequest),
			"issued":  only(1, 1, "issued NAME: keeps $NAME, $NAME_SECRET and $NAME_LAST4", keepIssued),
			"keep":    only(2, 2, "keep NAME REGEXP: what its group matches in the last output", keepMatch),
			"becomes": only(3, -1, "becomes REGEXP PROGRAM ARGS...: runs it until its output matches", awaitOutput),
			"app":     only(1, 1, "app NAME: the user's authenticator app takes the secret of the last output", scanSecret),
			"code":    only(1, 2, "code NAME [wrong]: sets $OTP", showCode),
			"mail":    findMail,
		},
	})
}

// story is what the commands of one script share.
type story struct {
	box  *mailbox
	apps map[string]*authenticatorApp
}

type storyKey struct{}

func storyOf(ts *testscript.TestScript) *story { return ts.Value(storyKey{}).(*story) }

// only checks how a command is called; most < 0: with any number of arguments.
func only(least, most int, usage string, run func(ts *testscript.TestScript, args []string)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < least || most >= 0 && len(args) > most {
			ts.Fatalf("usage: %s", usage)
		}
		run(ts, args)
	}
}

// until waits for something to become so.
func until(ts *testscript.TestScript, what string, ok func() bool) {
	for end := time.Now().Add(ceiling); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	ts.Fatalf("not within %s: %s", ceiling, what)
}

func expandStory(ts *testscript.TestScript, args []string) {
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

func adminOf(ts *testscript.TestScript, path string) string {
	return "http://" + ts.Getenv("ADMIN") + "/sallyport/v1" + path
}

func awaitGateway(ts *testscript.TestScript, _ []string) {
	until(ts, "the gateway is ready", func() bool {
		resp, err := http.Get(adminOf(ts, "/health"))
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return false
		}
		conn, err := net.Dial("tcp", ts.Getenv("GATE"))
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
}

// makePeople makes what a story takes for granted: an account, whose ID becomes
// $ACCOUNT, and its users, whose IDs become $NAME in capitals.
func makePeople(ts *testscript.TestScript, args []string) {
	ts.Setenv("ACCOUNT", makeRecord(ts, "/accounts", map[string]string{"name": "Example Ltd"}))
	for _, arg := range args {
		name, role, found := strings.Cut(arg, "=")
		if !found {
			ts.Fatalf("people: NAME=ROLE")
		}
		ts.Setenv(strings.ToUpper(name), makeRecord(ts, "/users", map[string]string{
			"account_id": ts.Getenv("ACCOUNT"), "name": name, "role": role, "email": name + "@example.com",
		}))
	}
}

func makeRecord(ts *testscript.TestScript, path string, record map[string]string) (id string) {
	body, err := json.Marshal(record)
	ts.Check(err)
	resp, err := http.Post(adminOf(ts, path), "application/json", bytes.NewReader(body))
	ts.Check(err)
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusCreated {
		ts.Fatalf("POST %s: %s", path, resp.Status)
	}
	var made struct{ ID string }
	ts.Check(json.NewDecoder(resp.Body).Decode(&made))
	return made.ID
}

// sendRequest sends one request, now, and demands a status, and a code where one is
// named. The head and the body of the answer can be looked at with stdout.
func sendRequest(ts *testscript.TestScript, args []string) {
	status, code, _ := strings.Cut(args[0], ":")
	target := args[2]
	if strings.HasPrefix(target, "/") {
		target = "http://" + ts.Getenv("GATE") + target
	}
	req, err := http.NewRequest(args[1], target, nil)
	ts.Check(err)
	if len(args) == 4 {
		req.Header.Set("Authorization", "Bearer "+args[3])
	}
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(resp.Header.Write(ts.Stdout()))
	_, err = ts.Stdout().Write(body)
	ts.Check(err)
	var problem struct{ Code string }
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") {
		ts.Check(json.Unmarshal(body, &problem))
	}
	if got := strconv.Itoa(resp.StatusCode); got != status || problem.Code != code {
		ts.Fatalf("%s %s: got %s %s", args[1], args[2], got, problem.Code)
	}
}

// keepIssued keeps what a command printed that issued a secret, with --output json.
func keepIssued(ts *testscript.TestScript, args []string) {
	var i struct {
		Token struct {
			ID    string
			Last4 string
		}
		Secret string
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &i))
	if i.Secret == "" || !strings.HasSuffix(i.Secret, i.Token.Last4) { // T18
		ts.Fatalf("the last output issued no secret")
	}
	ts.Setenv(args[0], i.Token.ID)
	ts.Setenv(args[0]+"_SECRET", i.Secret)
	ts.Setenv(args[0]+"_LAST4", i.Token.Last4)
}

func keepMatch(ts *testscript.TestScript, args []string) {
	found := pattern(ts, args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(found) != 2 {
		ts.Fatalf("the last output has no match, or not one group")
	}
	ts.Setenv(args[0], found[1])
}

func pattern(ts *testscript.TestScript, text string) *regexp.Regexp {
	re, err := regexp.Compile(`(?ms)` + text)
	ts.Check(err)
	return re
}

// awaitOutput is for what gateways learn of a moment later.
func awaitOutput(ts *testscript.TestScript, args []string) {
	re := pattern(ts, args[0])
	until(ts, "the output matches", func() bool {
		return ts.Exec(args[1], args[2:]...) == nil && re.MatchString(ts.ReadFile("stdout"))
	})
}

// authenticatorApp makes the one-time codes of a user.
type authenticatorApp struct {
	secret string
	last   int64 // the period whose code was shown last
}

const codePeriod = 30 // seconds

func scanSecret(ts *testscript.TestScript, args []string) {
	var enrolled struct{ Secret string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &enrolled))
	storyOf(ts).apps[args[0]] = &authenticatorApp{secret: enrolled.Secret}
}

// showCode gives the present code, or the next one's when that was shown already, as
// a code works once. A code is right for a period longer on both sides, so that the
// next one's can be given at once, and only the one after that has to be waited for.
func showCode(ts *testscript.TestScript, args []string) {
	app := storyOf(ts).apps[args[0]]
	if app == nil {
		ts.Fatalf("%s has no authenticator app", args[0])
	}
	now := time.Now().Unix() / codePeriod
	if len(args) == 2 {
		ts.Setenv("OTP", app.wrong(ts, now))
		return
	}
	app.last = max(app.last+1, now)
	for ; app.last > now+1; now = time.Now().Unix() / codePeriod {
		time.Sleep(100 * time.Millisecond)
	}
	ts.Setenv("OTP", app.at(ts, app.last))
}

func (a *authenticatorApp) at(ts *testscript.TestScript, period int64) string {
	code, err := totp.GenerateCode(a.secret, time.Unix(period*codePeriod, 0))
	ts.Check(err)
	return code
}

// wrong is six digits that are not right for minutes.
func (a *authenticatorApp) wrong(ts *testscript.TestScript, now int64) string {
	var right []string
	for period := now - 1; period < now+8; period++ {
		right = append(right, a.at(ts, period))
	}
	for n := 0; ; n++ {
		if code := fmt.Sprintf("%06d", n); !slices.Contains(right, code) {
			return code
		}
	}
}

// findMail waits for a mail to somebody that matches, subject first; with !, it
// demands that there is none yet: what comes before it in a story must wait for a
// mail that is sent later.
func findMail(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: mail NAME REGEXP")
	}
	re, box := pattern(ts, args[1]), storyOf(ts).box
	found := func() bool {
		box.mu.Lock()
		defer box.mu.Unlock()
		return slices.ContainsFunc(box.mails, func(m received) bool {
			return m.to == args[0]+"@example.com" && re.MatchString(m.subject+"\n\n"+m.text)
		})
	}
	if neg {
		if found() {
			ts.Fatalf("%s got such a mail", args[0])
		}
		return
	}
	until(ts, args[0]+" gets such a mail", found)
}
