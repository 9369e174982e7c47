package notify

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	texttemplate "text/template"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

//go:embed templates
var ours embed.FS

// Templates write notices as mails. One set serves any number of senders at once.
type Templates struct {
	words *texttemplate.Template // "EVENT.subject", "EVENT.what", "EVENT.do"
	text  *texttemplate.Template // the layout
	html  *htmltemplate.Template
	texts map[token.Event]*texttemplate.Template // those that an operator replaced
	htmls map[token.Event]*htmltemplate.Template
}

const (
	textEnd     = ".txt.tmpl"
	htmlEnd     = ".html.tmpl"
	layoutName  = "layout"
	subjectName = "subject"
	// maxTemplate bounds a file, and with it a mail.
	maxTemplate = 256 << 10
)

var functions = map[string]any{"date": date, "day": day, "list": some}

// LoadTemplates loads our templates and those of a directory, which replace ours
// where it has any: EVENT.txt.tmpl and EVENT.html.tmpl for an event, and layout.txt.tmpl
// and layout.html.tmpl for all that have none. Each is tried out on an example, so
// that one that can not be used stops the start and not a notice. An error
// names the file and the line.
func LoadTemplates(directory string) (*Templates, error) {
	t, err := loadOurs()
	if err != nil {
		return nil, err
	}
	if directory == "" {
		return t, nil
	}
	entries, err := os.ReadDir(directory)
	if err != nil {
		return nil, fmt.Errorf("mail templates: %w", err)
	}
	for _, entry := range entries {
		if entry.IsDir() || !strings.HasSuffix(entry.Name(), ".tmpl") {
			continue
		}
		if err := t.replace(directory, entry.Name()); err != nil {
			return nil, fmt.Errorf("mail templates: %w", err)
		}
	}
	return t, t.try(directory)
}

func loadOurs() (*Templates, error) {
	read := func(name string) string {
		text, _ := fs.ReadFile(ours, "templates/"+name) // embedded, so that it is there
		return string(text)
	}
	t := &Templates{texts: map[token.Event]*texttemplate.Template{}, htmls: map[token.Event]*htmltemplate.Template{}}
	var err error
	if t.words, err = parseText("events.tmpl", read("events.tmpl")); err != nil {
		return nil, err
	}
	if t.text, err = parseText(layoutName+textEnd, read(layoutName+textEnd)); err != nil {
		return nil, err
	}
	t.html, err = parseHTML(layoutName+htmlEnd, read(layoutName+htmlEnd))
	return t, err
}

func parseText(name, text string) (*texttemplate.Template, error) {
	return texttemplate.New(name).Option("missingkey=error").Funcs(functions).Parse(text)
}

func parseHTML(name, text string) (*htmltemplate.Template, error) {
	return htmltemplate.New(name).Option("missingkey=error").Funcs(functions).Parse(text)
}

// replace takes a file of the operator's.
func (t *Templates) replace(directory, name string) error {
	path := filepath.Join(directory, name)
	stem, isText := strings.CutSuffix(name, textEnd)
	if !isText {
		var isHTML bool
		if stem, isHTML = strings.CutSuffix(name, htmlEnd); !isHTML {
			return fmt.Errorf("%s: a template is named EVENT%s or EVENT%s", path, textEnd, htmlEnd)
		}
	}
	event := token.Event(stem)
	if stem != layoutName && !slices.Contains(token.Events(), event) {
		return fmt.Errorf("%s: there is no event of that name; the events are in docs/notices.md", path)
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() > maxTemplate {
		return fmt.Errorf("%s: must be a file of at most %d KiB", path, maxTemplate>>10)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if isText {
		parsed, err := parseText(path, string(text))
		if err != nil {
			return err
		}
		if stem == layoutName {
			t.text = parsed
		} else {
			t.texts[event] = parsed
		}
		return nil
	}
	parsed, err := parseHTML(path, string(text))
	if err != nil {
		return err
	}
	if stem == layoutName {
		t.html = parsed
	} else {
		t.htmls[event] = parsed
	}
	return nil
}

// try writes a mail for each event with all facts, and one with none.
func (t *Templates) try(directory string) error {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	full, err := json.Marshal(Facts{
		TokenName: "example", WasNamed: "sample", Last4: "0000", Actor: "somebody", Address: "192.0.2.1",
		At: at, Due: at, ExpiresAt: at, PreviousExpiresAt: at, UndoUntil: at,
		Access: "custom", Scopes: []string{"a"}, Taken: []string{"b"}, Changed: []string{"name"}, Reason: token.CauseUsed.String(), Note: "because",
		Evidence: &token.Evidence{From: at, To: at, LastUse: at, Used: []string{"a"}, Unused: []string{"b"}},
	})
	if err != nil {
		return err
	}
	for _, event := range token.Events() {
		for _, facts := range []string{string(full), "{}"} {
			n := tokenstore.Notice{ID: "ntc_example", Event: event, AccountID: "acc_example", TokenID: "tok_example", Facts: json.RawMessage(facts), CreatedAt: at}
			if _, _, _, err := t.Render(&n, "https://tokens.example.com"); err != nil {
				return fmt.Errorf("mail templates in %s can not be used for %s (fields may be empty, and Evidence nil: ask with {{with .Evidence}}): %w", directory, event, err)
			}
		}
	}
	return nil
}

var errWordless = errors.New("there are no words for the event")

// Render writes a notice as a mail.
func (t *Templates) Render(n *tokenstore.Notice, baseURL string) (subject, text, html string, err error) {
	v, err := viewOf(n, baseURL)
	if err != nil {
		return "", "", "", err
	}
	for part, into := range map[string]*string{"subject": &v.Subject, "what": &v.What, "do": &v.Do} {
		words := t.words.Lookup(string(n.Event) + "." + part)
		if words == nil {
			return "", "", "", errWordless
		}
		if *into, err = written(words, v); err != nil {
			return "", "", "", err
		}
	}
	texts, ok := t.texts[n.Event]
	if !ok {
		texts = t.text
	}
	if own := texts.Lookup(subjectName); own != nil {
		if v.Subject, err = written(own, v); err != nil {
			return "", "", "", err
		}
	}
	v.Subject = oneLine(v.Subject)
	if text, err = written(texts, v); err != nil {
		return "", "", "", err
	}
	var htmls writer = t.html
	if own, ok := t.htmls[n.Event]; ok {
		htmls = own
	}
	html, err = written(htmls, v)
	return v.Subject, text, html, err
}

type writer interface {
	Execute(w io.Writer, data any) error
}

// oneLine keeps what stands in a header from starting another one (D16).
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func written(t writer, v *View) (string, error) {
	var b bytes.Buffer
	if err := t.Execute(&b, v); err != nil {
		return "", err
	}
	return b.String(), nil
}
