package api

// The limits of lists (D23).
const (
	DefaultLimit = 50
	MaxLimit     = 200
	maxSearch    = 200 // bytes
)

// Page is one page of a list, newest first.
type Page[T any] struct {
	Items      []T    `json:"items" nullable:"false"`
	NextCursor string `json:"next_cursor,omitempty" doc:"Asks for the next page; absent on the last one. It means nothing to anyone but this API, and stays good while records come and go."`
}

// pageAnswer is a page as huma sends it.
type pageAnswer[T any] struct{ Body Page[T] }

// pageOrError shows each record of a page.
func pageOrError[S, T any](list []S, show func(*S) T, next string, err error) (*pageAnswer[T], error) {
	if err != nil {
		return nil, err
	}
	p := Page[T]{Items: make([]T, 0, len(list)), NextCursor: next}
	for i := range list {
		p.Items = append(p.Items, show(&list[i]))
	}
	return &pageAnswer[T]{p}, nil
}
