package storecopy

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/tokenstore/internal/catalogue"
	"github.com/sallyport/sallyport/tokenstore/internal/db"
)

// state is one state of a store: whatever is changed in it steps a number or the
// chain. What is not (reports of gateways, for example) is compared with the rest
// at the end.
type state struct {
	Epoch     string `json:"epoch"`
	Seq       int64  `json:"seq"`
	AuditSeq  int64  `json:"audit_seq"`
	AuditHash string `json:"audit_hash"`
	Primary   string `json:"primary"`
}

func (s side) state() (state, error) {
	row, err := db.New(s.conn).GetHead(s.ctx)
	if err != nil {
		return state{}, s.explain("read the head", err)
	}
	found := state{Epoch: row.Epoch, Seq: row.Seq, AuditSeq: row.AuditSeq, AuditHash: hex.EncodeToString(row.AuditHash)}
	if row.PrimaryKey != nil {
		found.Primary = *row.PrimaryKey
	}
	return found, nil
}

// unused says that nobody has ever had the store open to use it.
func (s state) unused() bool { return s.Seq == 0 && s.AuditSeq == 0 && s.Primary == "" }

// stage is how far a copy has come.
type stage string

const (
	emptying stage = "emptying" // what stands in the target goes
	copying  stage = "copying"  // every table goes on after its greatest key
	checking stage = "checking" // all is there and to be compared
	differs  stage = "differs"  // it was compared and is not the same
)

// marker stands in the target until the copy is finished, in a table of its own:
// it is there exactly as long as the table.
type marker struct {
	Stage  stage
	Run    string // of the process that works on it: a later one takes over
	Source state
	Epoch  string // the copy's, once it is drawn
}

var createMarker = "CREATE TABLE " + catalogue.Marker + ` (
    one    BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    stage  TEXT   NOT NULL,
    run    TEXT   NOT NULL,
    source TEXT   NOT NULL,
    epoch  TEXT   NOT NULL
)`

func (s side) readMarker() (m marker, err error) {
	var stage, source string
	err = s.conn.QueryRow(s.ctx, "SELECT stage, run, source, epoch FROM "+catalogue.Marker+" WHERE one = 1").Scan(&stage, &m.Run, &source, &m.Epoch)
	if errors.Is(err, pgx.ErrNoRows) {
		return marker{}, errMarker
	}
	if err != nil {
		return marker{}, s.explain("read the marker of the copy", err)
	}
	m.Stage = stageOf(stage)
	if m.Stage == "" || json.Unmarshal([]byte(source), &m.Source) != nil {
		return marker{}, errMarker
	}
	return m, nil
}

var errMarker = errors.New("the marker of an earlier copy in the target is damaged, or of another release: give an empty database")

func stageOf(text string) stage {
	for _, s := range []stage{emptying, copying, checking, differs} {
		if string(s) == text {
			return s
		}
	}
	return ""
}

func (s side) writeMarker(m marker) error {
	source, err := json.Marshal(m.Source)
	if err != nil {
		return err
	}
	_, err = s.conn.Exec(s.ctx, "INSERT INTO "+catalogue.Marker+` (one, stage, run, source, epoch) VALUES (1, $1, $2, $3, $4)
ON CONFLICT (one) DO UPDATE SET stage = excluded.stage, run = excluded.run, source = excluded.source, epoch = excluded.epoch`,
		string(m.Stage), m.Run, string(source), m.Epoch)
	return s.explain("write the marker of the copy", err)
}

func (s side) exec(doing, statement string, args ...any) error {
	_, err := s.conn.Exec(s.ctx, statement, args...)
	return s.explain(doing, err)
}

// resume says what is to be done about a copy that was begun before, and what
// there is to say about it. It changes nothing.
func (m *marker) resume(source state) (stage, string, error) {
	switch {
	case m.Source.Epoch != source.Epoch:
		return "", "", fmt.Errorf("%w: it holds an unfinished copy of another store", ErrTarget)
	case m.Source != source:
		return emptying, "The source has changed since the copy was begun: starting over.", nil
	case m.Stage == differs:
		return emptying, "The copy before was found to differ from the source: starting over.", nil
	case m.Stage == emptying:
		return emptying, "", nil
	default:
		return m.Stage, "Going on with the copy that was begun before.", nil
	}
}
