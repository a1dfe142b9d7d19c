#include "coding_probe.hpp"

#include "krul/backend/forward.hpp"
#include "krul/compress/joint_transform.hpp"
#include "krul/core/clock.hpp"

namespace krul::cli {
namespace {

constexpr std::size_t probe_block = 64;

/// Layers' rows of one block, to be decoded into.
class BlockRows {
 public:
  BlockRows(std::size_t layers, std::size_t bytes) : room_(2 * layers * bytes) {
    for (std::size_t layer = 0; layer < layers; ++layer)
      views_.push_back({std::span(room_).subspan(2 * layer * bytes, bytes),
                        std::span(room_).subspan((2 * layer + 1) * bytes, bytes)});
  }
  [[nodiscard]] std::span<const MutableKvRows> views() const noexcept { return views_; }

 private:
  std::vector<std::byte> room_;
  std::vector<MutableKvRows> views_;
};

}  // namespace

CodingProbe::CodingProbe(LoadedModel& model, std::shared_ptr<const Profile> profile, std::span<const Token> tokens)
    : profile_(std::move(profile)),
      geometry_(model.backend.geometry()),
      tokens_(tokens.size() / probe_block * probe_block),
      cache_(model.backend.make_cache(tokens_)) {
  tokens = tokens.first(tokens_);
  auto batch = model.backend.make_batch();
  prefill(model.backend, cache_, batch, tokens, {});
  if (profile_->data().features > 0) features_ = token_features(model.backend, tokens);
}

CodingFigures CodingProbe::run(StepScale step) const {
  const SteadyClock clock;
  const std::size_t length = probe_block * geometry_.kv_row_bytes();
  double encode_s = 0, decode_s = 0, bytes = 0;
  for (std::size_t i = 0; i < profile_->data().groups.size(); ++i) {
    const auto& group = profile_->data().groups[i];
    const JointTransform coding(profile_, i, step);
    const BlockRows decoded(group.layers, length);
    for (std::size_t first = 0; first < tokens_; first += probe_block) {
      std::vector<KvRows> rows;
      for (std::size_t layer = group.first_layer; layer < group.first_layer + group.layers; ++layer) {
        const KvRows all = cache_.view(layer);
        const std::size_t at = first * geometry_.kv_row_bytes();
        rows.push_back({all.keys.subspan(at, length), all.values.subspan(at, length)});
      }
      const BlockContext context{static_cast<Position>(first), features_.of({first, first + probe_block})};
      const TimePoint start = clock.now();
      const auto chunk = coding.encode(geometry_, rows, context);
      const TimePoint coded = clock.now();
      unwrap(coding.decode(geometry_, chunk, decoded.views(), context));
      encode_s += seconds(coded - start);
      decode_s += seconds(clock.now() - coded);
      bytes += static_cast<double>(chunk.size());
    }
  }
  const auto a_token = [&](double sum) { return sum / static_cast<double>(tokens_); };
  return {a_token(encode_s) * 1e6, a_token(decode_s) * 1e6, a_token(bytes)};
}

}  // namespace krul::cli
