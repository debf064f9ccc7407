// Threads do not survive fork(), but libgomp's record of the forking thread's team does: a parallel region that this
// thread began in the child would wait for ever for threads that are no more. Threads that begin in the child have no
// such record: one of them begins the region in its place.
#pragma once

#include <functional>

namespace attnlib {

// Whether this is the thread that came here through fork().
bool came_through_fork();

// For that thread: runs `work` on a thread that began in this process, and waits for it. Meanwhile `look_around` is
// called now and then on the caller's own thread. Costs some ten microseconds; the other thread sleeps in between.
// Neither may throw.
void on_fresh_thread(const std::function<void()>& work, const std::function<void()>& look_around);

}  // namespace attnlib
