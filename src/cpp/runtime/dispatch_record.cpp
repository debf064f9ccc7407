#include "runtime/dispatch_record.hpp"

namespace attnlib {

DispatchRecord& dispatch_record() {
  thread_local DispatchRecord record;
  return record;
}

}  // namespace attnlib
