#include "decoder_keys.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include "quoted.hpp"

namespace krul {
namespace {

/// Read by DecoderFile::read, or below.
constexpr std::string_view computed_keys[] = {"block_count",
                                              "context_length",
                                              "embedding_length",
                                              "feed_forward_length",
                                              "attention.head_count",
                                              "attention.head_count_kv",
                                              "attention.key_length",
                                              "attention.value_length",
                                              "attention.layer_norm_rms_epsilon",
                                              "attention.sliding_window",
                                              "rope.dimension_count",
                                              "rope.freq_base",
                                              "rope.scaling.type",
                                              "rope.scaling.factor",
                                              "rope.scale_linear"};

/// Nothing that these architectures compute depends on them.
constexpr std::string_view idle_keys[] = {"vocab_size",
                                          "tensor_data_layout",
                                          "attention.layer_norm_epsilon",
                                          "attention.sliding_window_pattern",
                                          "rope.scaling.original_context_length",
                                          "rope.scaling.finetuned"};

/// Values with which a key asks for nothing; booleans count as 0 and 1.
struct NeutralKey {
  std::string_view name;
  std::array<double, 2> values;
};
constexpr NeutralKey neutral_keys[] = {{"expert_count", {0, 0}},
                                       {"expert_used_count", {0, 0}},
                                       {"expert_shared_count", {0, 0}},
                                       {"expert_group_count", {0, 0}},
                                       {"expert_group_used_count", {0, 0}},
                                       {"nextn_predict_layers", {0, 0}},
                                       {"leading_dense_block_count", {0, 0}},
                                       {"pooling_type", {0, 0}},
                                       {"attention.causal", {1, 1}},
                                       {"attention.scale", {0, 0}},
                                       {"attention.clamp_kqv", {0, 0}},
                                       {"attention.max_alibi_bias", {0, 0}},
                                       {"attn_logit_softcapping", {0, 0}},
                                       {"final_logit_softcapping", {0, 0}},
                                       {"logit_scale", {0, 1}},
                                       {"residual_scale", {0, 1}},
                                       {"embedding_scale", {0, 1}},
                                       {"use_parallel_residual", {0, 0}},
                                       {"swin_norm", {0, 0}},
                                       {"rope.scaling.alpha", {0, 0}},
                                       {"rope.scaling.attn_factor", {1, 1}},
                                       {"rope.scaling.yarn_log_multiplier", {0, 0}}};

template <class Values, class Value>
bool holds(const Values& values, const Value& value) {
  return std::ranges::find(values, value) != std::end(values);
}

Status refuse(const GgufFile& file, std::string_view key) {
  return fail(ErrorCode::unsupported, "krul does not compute what key " + quoted(key) + " of " + file.path() +
                                          " asks for: use a model without it");
}

Result<double> number(const GgufFile& file, const std::string& key) {
  if (const auto flag = file.bool_value(key)) return *flag ? 1.0 : 0.0;
  return file.real_value(key);
}

/// Where the positions' meaning would change. Without a type, scaling is linear; a factor of 0 is none.
Status check_rotary_scaling(const GgufFile& file, const std::string& prefix) {
  const std::string key = prefix + "rope.scaling.type";
  if (file.has(key)) {
    const auto type = file.string_value(key);
    if (!type) return propagate(type);
    if (*type == "none") return {};
    if (*type != "linear")
      return fail(ErrorCode::unsupported, "rotary scaling " + quoted(*type) + " of " + file.path() +
                                              " is not supported: use a model without rotary scaling");
  }
  for (const auto* factor : {"rope.scaling.factor", "rope.scale_linear"}) {
    if (!file.has(prefix + factor)) continue;
    const auto value = file.real_value(prefix + factor);
    if (!value) return propagate(value);
    if (*value != 0 && *value != 1) return refuse(file, prefix + factor);
  }
  return {};
}

/// A window that the whole context fits in hides nothing.
Status check_window(const GgufFile& file, const std::string& prefix) {
  const std::string key = prefix + "attention.sliding_window";
  if (!file.has(key)) return {};
  const auto window = file.unsigned_value(key), context = file.unsigned_value(prefix + "context_length");
  if (!window) return propagate(window);
  if (!context) return propagate(context);
  return *window == 0 || *window >= *context ? Status{} : refuse(file, key);
}

}  // namespace

Status check_decoder_keys(const GgufFile& file, const std::string& prefix) {
  for (const auto key : file.keys()) {
    if (!key.starts_with(prefix)) continue;
    const auto name = key.substr(prefix.size());
    if (holds(computed_keys, name) || holds(idle_keys, name)) continue;
    const auto* neutral = std::ranges::find(neutral_keys, name, &NeutralKey::name);
    if (neutral == std::end(neutral_keys)) return refuse(file, key);
    const auto value = number(file, std::string(key));
    if (!value) return propagate(value);
    if (!holds(neutral->values, *value)) return refuse(file, key);
  }
  if (const auto status = check_window(file, prefix); !status) return status;
  return check_rotary_scaling(file, prefix);
}

}  // namespace krul
