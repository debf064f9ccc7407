#include "ndarray.hpp"
#include "register.hpp"

PYBIND11_MODULE(_core, module, pybind11::mod_gil_not_used()) {
  using namespace attnlib::bindings;
  module.doc() = "The native core of attnlib. Its functions are documented and typed in attnlib.functional.";
  register_dtypes();
  register_fork();
  register_runtime(module);
  register_matmul(module);
  register_softmax(module);
  register_normalization(module);
  register_activation(module);
  register_rotary(module);
  register_embedding(module);
  register_attention(module);
  register_attention_cached(module);
  register_encoder_layers(module);
  register_decoder_layers(module);
  register_gated_feed_forward(module);
  register_lstm_steps(module);
  register_ceiling(module);
  register_dlpack(module);
  register_c_api(module);
}
