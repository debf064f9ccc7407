#include "kernels/lstm_cell.hpp"

#include "kernels/row_vectors.hpp"
#include "kernels/simd/math.hpp"

namespace attnlib::ATTNLIB_ISA {

template <class C>
static void lstm_cell(const LstmCellRows& rows) noexcept {
  constexpr int width = lanes<C>;
  const std::int64_t units = rows.units;
  for (std::int64_t row = 0; row < rows.rows; ++row) {
    const C* gates = static_cast<const C*>(rows.gates) + row * rows.gates_stride;
    const C* projected = static_cast<const C*>(rows.projected) + row * rows.projected_stride;
    C* cell = static_cast<C*>(rows.cell) + row * rows.cell_stride;
    C* out = static_cast<C*>(rows.out) + row * rows.out_stride;
    for (std::int64_t unit = 0; unit < units; unit += width) {
      const int count = units - unit < width ? static_cast<int>(units - unit) : width;
      const auto gate = [&](int block) __attribute__((always_inline)) {
        const std::int64_t column = block * units + unit;
        return load_lanes(gates + column, count) + load_lanes(projected + column, count);
      };
      const vec<C> added = sigmoid<C>(gate(0)) * tanh(gate(2));
      const vec<C> kept = sigmoid<C>(gate(1)) * load_lanes(cell + unit, count);
      const vec<C> state = kept + added;
      store_lanes(cell + unit, state, count);
      store_lanes(out + unit, sigmoid<C>(gate(3)) * tanh(state), count);
    }
  }
}

extern const LstmCellKernels lstm_cell_kernels;
extern constinit const LstmCellKernels lstm_cell_kernels = {lstm_cell<float>, lstm_cell<double>};

}  // namespace attnlib::ATTNLIB_ISA
