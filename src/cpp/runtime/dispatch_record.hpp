// What the last call on this thread did: which kernel, by which plan, with how much, and what slowed it down. Written
// by the bindings and the operations as they decide, a few stores a call; read by attnlib.last_dispatch().
#pragma once

#include <cstdint>

namespace attnlib {

// All texts are literals.
struct DispatchRecord {
  static constexpr int most_notes = 8;
  struct Note {
    const char* argument;
    const char* text;
  };

  const char* operation = nullptr;
  const char* kernel = nullptr;
  const char* plan = nullptr;
  int threads = 1;
  std::int64_t workspace_bytes = 0;  // of the calling thread
  int notes = 0;
  Note note[most_notes] = {};

  void begin(const char* name) {
    *this = DispatchRecord{};
    operation = name;
  }
  void add_note(const char* argument, const char* text) {
    if (notes < most_notes) note[notes++] = {argument, text};
  }
};

DispatchRecord& dispatch_record();

}  // namespace attnlib
