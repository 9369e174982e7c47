# For tests only.
test-1:JjpXPg5xz0JI+l8kot4BdjvoaQkghnsL7VO3owkbVsM=
