#include "decoder_keys.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <string_view>
#include <vector>

#include "quoted.hpp"

namespace krul {
namespace {

/// Read by DecoderFile::read; the geometry or the tensors' shapes say what they say.
constexpr std::string_view size_keys[] = {"block_count",          "context_length",       "embedding_length",
                                          "feed_forward_length",  "attention.head_count", "attention.head_count_kv",
                                          "attention.key_length", "rope.dimension_count", "attention.value_length",
                                          "rope.freq_base"};
/// Read by DecoderFile::read; nothing else says it.
constexpr std::string_view norm_key = "attention.layer_norm_rms_epsilon";
/// May ask for nothing in ways of their own, see below.
constexpr std::string_view window_key = "attention.sliding_window", scale_key = "attention.scale";
constexpr std::string_view rotary_scaling_keys[] = {"rope.scaling.type", "rope.scaling.factor", "rope.scale_linear"};

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

/// Numbers or booleans: one, or one for each layer.
Result<std::vector<double>> numbers(const GgufFile& file, const std::string& key) {
  if (const auto each = file.integer_array(key)) return std::vector<double>(each->begin(), each->end());
  if (const auto flag = file.bool_value(key)) return std::vector{*flag ? 1.0 : 0.0};
  const auto value = file.real_value(key);
  if (!value) return propagate(value);
  return std::vector{*value};
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
  const std::string key = prefix + std::string(window_key);
  if (!file.has(key)) return {};
  const auto window = file.unsigned_value(key), context = file.unsigned_value(prefix + "context_length");
  if (!window) return propagate(window);
  if (!context) return propagate(context);
  return *window == 0 || *window >= *context ? Status{} : refuse(file, key);
}

/// 0, or what scores are scaled by anyway: 1 / sqrt(head_dim), as exactly as floats say it.
Status check_scale(const GgufFile& file, const std::string& prefix) {
  const std::string key = prefix + std::string(scale_key);
  const auto value = file.real_value(key);
  if (!value) return propagate(value);
  if (*value == 0) return {};
  // Sizes may be given for each layer.
  const auto head_dims = numbers(file, prefix + "attention.key_length"),
             hidden = numbers(file, prefix + "embedding_length"),
             heads = numbers(file, prefix + "attention.head_count");
  std::vector<double> sizes;
  if (head_dims) sizes = *head_dims;
  if (!head_dims && hidden && heads)
    for (const double count : *heads) sizes.push_back(hidden->front() / count);
  const auto is_usual = [&](double head_dim) {
    const double usual = 1 / std::sqrt(head_dim);
    return std::abs(*value - usual) <= 0x1p-22 * usual;
  };
  return !sizes.empty() && std::ranges::all_of(sizes, is_usual) ? Status{} : refuse(file, key);
}

/// Whether a key that is none of the sizes, nor the norm's, asks for nothing.
Status check_asks_for_nothing(const GgufFile& file, const std::string& prefix, std::string_view name) {
  if (holds(idle_keys, name)) return {};
  if (name == window_key) return check_window(file, prefix);
  if (name == scale_key) return check_scale(file, prefix);
  if (holds(rotary_scaling_keys, name)) return check_rotary_scaling(file, prefix);
  const std::string key = prefix + std::string(name);
  const auto* neutral = std::ranges::find(neutral_keys, name, &NeutralKey::name);
  if (neutral == std::end(neutral_keys)) return refuse(file, key);
  const auto values = numbers(file, key);
  if (!values) return propagate(values);
  const bool asks = !std::ranges::all_of(*values, [&](double value) { return holds(neutral->values, value); });
  return asks ? refuse(file, key) : Status{};
}

}  // namespace

Status check_decoder_keys(const GgufFile& file, const std::string& prefix) {
  for (const auto key : file.keys()) {
    if (!key.starts_with(prefix)) continue;
    const auto name = key.substr(prefix.size());
    if (holds(size_keys, name) || name == norm_key) continue;
    if (const auto status = check_asks_for_nothing(file, prefix, name); !status) return status;
  }
  return {};
}

bool adds_meaning(const GgufFile& file, const std::string& prefix, std::string_view name) {
  return !holds(size_keys, name) && (name == norm_key || !check_asks_for_nothing(file, prefix, name));
}

}  // namespace krul
