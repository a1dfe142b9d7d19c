#include "krul/model/decoder_file.hpp"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <initializer_list>
#include <unordered_set>

#include "content_hash.hpp"
#include "decoder_keys.hpp"
#include "krul/core/finite.hpp"
#include "krul/model/dequantize.hpp"
#include "quoted.hpp"

namespace krul {
namespace {

/// "576 x 1536"
template <class Iterator>
std::string shape_text(Iterator extent, Iterator end) {
  std::string text;
  for (; extent != end; ++extent) {
    if (!text.empty()) text += " x ";
    text += std::to_string(*extent);
  }
  return text;
}

/// What a number of a file may be. Smaller bases would turn faster than positions can tell, smaller epsilons are no
/// floats.
struct Range {
  double least, most;
};
constexpr Range epsilons{1e-30, 1e30}, rotary_bases{1, 1e30};

/// Takes what a description needs from a file and remembers the first thing that was wrong.
class Reader {
 public:
  Reader(const GgufFile& file, std::string prefix) : file_(file), prefix_(std::move(prefix)) {}

  /// From here on a file may give a size for each layer.
  void know_layers(std::size_t layers) { layers_ = layers; }

  /// A size between 1 and its cap; where a file gives one for each layer, all have to be the same.
  std::size_t size(const std::string& key, std::uint64_t cap) {
    auto value = file_.unsigned_value(prefix_ + key);
    if (const auto each = file_.integer_array(prefix_ + key); each && !each->empty() && each->front() >= 0) {
      if (std::adjacent_find(each->begin(), each->end(), std::not_equal_to<>()) != each->end())
        return note({ErrorCode::unsupported, prefix_ + key + " differs from layer to layer in " + file_.path() +
                                                 ": use a model of equal layers"}),
               0;
      if (each->size() != layers_)
        return note({ErrorCode::corrupt, prefix_ + key + " has " + std::to_string(each->size()) + " values in " +
                                             file_.path() + ", which are not as many as it has layers"}),
               0;
      value = static_cast<std::uint64_t>(each->front());
    }
    if (!value) return note(value.error()), 0;
    if (*value == 0) return note({ErrorCode::corrupt, prefix_ + key + " is 0 in " + file_.path()}), 0;
    if (*value > cap)
      return note({ErrorCode::too_large, prefix_ + key + " is " + std::to_string(*value) + " in " + file_.path() +
                                             "; krul takes at most " + std::to_string(cap)}),
             0;
    return static_cast<std::size_t>(*value);
  }
  std::size_t size_or(const std::string& key, std::uint64_t cap, std::size_t otherwise) {
    return file_.has(prefix_ + key) ? size(key, cap) : otherwise;
  }
  double number(const std::string& key, const Range& range) {
    const auto value = file_.real_value(prefix_ + key);
    if (!value) return note(value.error()), 1.0;
    if (*value >= range.least && *value <= range.most) return *value;
    char text[128];
    std::snprintf(text, sizeof text, " is %g, and krul takes %g to %g", *value, range.least, range.most);
    return note({ErrorCode::corrupt, "in " + file_.path() + " " + prefix_ + key + text}), 1.0;
  }

  /// A tensor of that shape, rows before columns.
  const GgufTensor* tensor(const std::string& name, std::initializer_list<std::size_t> shape, bool optional = false) {
    const GgufTensor* found = file_.find(name);
    if (found == nullptr) {
      if (!optional) note({ErrorCode::not_found, "tensor " + name + " is missing in " + file_.path()});
      return nullptr;
    }
    used_.insert(found->name);
    if (!std::equal(found->shape.rbegin(), found->shape.rend(), shape.begin(), shape.end())) {
      note({ErrorCode::corrupt, "tensor " + name + " is " + shape_text(found->shape.rbegin(), found->shape.rend()) +
                                    " in " + file_.path() + " but should be " +
                                    shape_text(shape.begin(), shape.end())});
    } else if (found->shape[0] % block_values(found->type) != 0) {
      note({ErrorCode::corrupt, "the rows of tensor " + name + " are no whole blocks in " + file_.path()});
    }
    return found;
  }

  /// The first tensor that nobody asked for.
  const GgufTensor* unused() const {
    for (const auto& tensor : file_.tensors())
      if (!used_.contains(tensor.name)) return &tensor;
    return nullptr;
  }

  void note(Error error) {
    if (status_) status_ = tl::unexpected<Error>(std::move(error));
  }
  [[nodiscard]] const Status& status() const noexcept { return status_; }

 private:
  const GgufFile& file_;
  std::string prefix_;
  std::size_t layers_ = 0;
  std::unordered_set<std::string_view> used_;
  Status status_;
};

/// Makes a model smaller that has rows or positions to spare.
Status limit(const GgufFile& file, const DecoderLimits& limits, Geometry& geometry) {
  if (limits.vocabulary > geometry.vocabulary)
    return fail(ErrorCode::corrupt, "the tokenizer of " + file.path() + " has " + std::to_string(limits.vocabulary) +
                                        " tokens, the model " + std::to_string(geometry.vocabulary));
  if (limits.vocabulary != 0) geometry.vocabulary = limits.vocabulary;
  if (limits.context > geometry.context)
    return fail(ErrorCode::invalid_argument,
                file.path() + " has a context of " + std::to_string(geometry.context) + " tokens: ask for no more");
  if (limits.context != 0) geometry.context = limits.context;
  return {};
}

}  // namespace

Result<DecoderFile> DecoderFile::read(const GgufFile& file, ElementType cache_type, const DecoderLimits& limits) {
  const auto architecture = file.string_value("general.architecture");
  if (!architecture) return propagate(architecture);
  if (*architecture != "llama" && *architecture != "qwen2")
    return fail(ErrorCode::unsupported, "architecture " + quoted(*architecture) + " of " + file.path() +
                                            " is not supported: krul runs llama and qwen2");
  DecoderFile model;
  model.architecture = *architecture;
  if (const auto name = file.string_value("general.name")) model.name = *name;
  const std::string prefix = model.architecture + ".";
  if (const auto status = check_decoder_keys(file, prefix); !status) return propagate(status);

  Reader reader(file, prefix);
  Geometry& geometry = model.geometry;
  constexpr std::uint64_t most = 1 << 20;  // of any width; far above any model, and products of three fit 64 bits
  geometry.layers = reader.size("block_count", 1024);
  reader.know_layers(geometry.layers);
  geometry.hidden = reader.size("embedding_length", most);
  geometry.query_heads = reader.size("attention.head_count", 1024);
  geometry.kv_heads = reader.size_or("attention.head_count_kv", 1024, geometry.query_heads);
  geometry.context = reader.size("context_length", most);
  geometry.cache_type = cache_type;
  model.mlp = reader.size("feed_forward_length", most);
  model.norm_epsilon = static_cast<float>(reader.number("attention.layer_norm_rms_epsilon", epsilons));
  geometry.rotary.pairs = model.architecture == "llama" ? RotaryPairs::interleaved : RotaryPairs::halves;
  geometry.rotary.base = file.has(prefix + "rope.freq_base") ? reader.number("rope.freq_base", rotary_bases) : 10000.0;
  if (!reader.status()) return propagate(reader.status());

  geometry.head_dim = reader.size_or("attention.key_length", 1024, geometry.hidden / geometry.query_heads);
  const std::size_t value_dim = reader.size_or("attention.value_length", 1024, geometry.head_dim);
  geometry.rotary.dimensions = reader.size_or("rope.dimension_count", 1024, geometry.head_dim);
  if (!reader.status()) return propagate(reader.status());
  const bool widths_fit = geometry.head_dim > 0 && geometry.head_dim <= 1024 && value_dim == geometry.head_dim &&
                          geometry.query_heads % geometry.kv_heads == 0;
  if (!widths_fit || geometry.rotary.dimensions % 2 != 0 || geometry.rotary.dimensions > geometry.head_dim)
    return fail(ErrorCode::corrupt, "the sizes of the attention heads do not fit together in " + file.path());

  const std::size_t hidden = geometry.hidden, queries = geometry.query_heads * geometry.head_dim,
                    keys = geometry.kv_values();
  const GgufTensor* embedding = file.find("token_embd.weight");
  if (embedding == nullptr) return fail(ErrorCode::not_found, "tensor token_embd.weight is missing in " + file.path());
  if (embedding->shape.size() != 2 || embedding->shape[1] == 0)
    return fail(ErrorCode::corrupt, "tensor token_embd.weight is no matrix in " + file.path());
  if (embedding->shape[1] > (std::uint64_t{1} << 21))
    return fail(ErrorCode::too_large, "the vocabulary of " + file.path() + " has more than 2097152 tokens");
  geometry.vocabulary = static_cast<std::size_t>(embedding->shape[1]);
  model.embedding = reader.tensor("token_embd.weight", {geometry.vocabulary, hidden});
  model.output_norm = reader.tensor("output_norm.weight", {hidden});
  model.output = reader.tensor("output.weight", {geometry.vocabulary, hidden}, true);
  if (model.output == nullptr) model.output = model.embedding;
  for (std::size_t l = 0; l < geometry.layers && reader.status(); ++l) {
    const auto name = [&](const char* part) { return "blk." + std::to_string(l) + "." + part; };
    Layer layer;
    layer.attention_norm = reader.tensor(name("attn_norm.weight"), {hidden});
    layer.query = reader.tensor(name("attn_q.weight"), {queries, hidden});
    layer.key = reader.tensor(name("attn_k.weight"), {keys, hidden});
    layer.value = reader.tensor(name("attn_v.weight"), {keys, hidden});
    layer.query_bias = reader.tensor(name("attn_q.bias"), {queries}, true);
    layer.key_bias = reader.tensor(name("attn_k.bias"), {keys}, true);
    layer.value_bias = reader.tensor(name("attn_v.bias"), {keys}, true);
    layer.output = reader.tensor(name("attn_output.weight"), {hidden, queries});
    layer.mlp_norm = reader.tensor(name("ffn_norm.weight"), {hidden});
    layer.gate = reader.tensor(name("ffn_gate.weight"), {model.mlp, hidden});
    layer.up = reader.tensor(name("ffn_up.weight"), {model.mlp, hidden});
    layer.down = reader.tensor(name("ffn_down.weight"), {hidden, model.mlp});
    model.layers.push_back(layer);
  }
  if (!reader.status()) return propagate(reader.status());
  // A tensor that is left over would change the result if the model's own code used it.
  if (const auto* unused = reader.unused(); unused != nullptr)
    return fail(ErrorCode::unsupported, "krul does not compute with tensor " + quoted(unused->name) + " of " +
                                            file.path() + ": use a plain " + model.architecture + " model");
  if (const auto status = limit(file, limits, geometry); !status) return propagate(status);
  return model;
}

namespace {

/// The bytes of rows that hold so many values.
std::span<const std::byte> bytes_of_rows(const GgufTensor& tensor, std::size_t first, std::size_t values) {
  const std::size_t width = tensor.shape.empty() ? 0 : static_cast<std::size_t>(tensor.shape[0]);
  expects(width > 0 && values % width == 0 && first * width + values <= tensor.values(),
          "reading rows: they lie outside the tensor");
  const std::size_t row_bytes = width / block_values(tensor.type) * block_bytes(tensor.type);
  return tensor.data.subspan(first * row_bytes, values / width * row_bytes);
}

}  // namespace

Status read_rows(const GgufTensor& tensor, std::size_t first, std::span<float> out) {
  return dequantize(tensor.type, bytes_of_rows(tensor, first, out.size()), out);
}

Status read_finite_rows(const GgufFile& file, const GgufTensor& tensor, std::size_t first, std::span<float> out) {
  if (auto status = read_rows(tensor, first, out); !status) return status;
  if (are_finite(out)) return {};
  return fail(ErrorCode::corrupt, "tensor " + std::string(tensor.name) + " of " + file.path() +
                                      " holds numbers that are not finite: fetch the model anew");
}

Status read_four_bit_rows(const GgufTensor& tensor, std::size_t first, std::span<FourBitBlock> out) {
  expects(has_four_bits(tensor.type), "read_four_bit_rows: the tensor holds no blocks of four bits");
  return read_four_bit_blocks(tensor.type, bytes_of_rows(tensor, first, out.size() * four_bit_values), out);
}

std::string weights_hash(const GgufFile& file) {
  std::string all = content_hash(file.bytes());
  for (const auto& more : file.more_files()) all += content_hash(more.bytes());
  return file.more_files().empty() ? all : content_hash(all);
}

}  // namespace krul
