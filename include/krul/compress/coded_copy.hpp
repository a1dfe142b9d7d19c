#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "krul/backend/model_backend.hpp"
#include "krul/backend/owned_kv_rows.hpp"
#include "krul/compress/joint/recent_rows.hpp"
#include "krul/compress/joint_transform.hpp"
#include "krul/compress/profile_belongs.hpp"
#include "krul/compress/token_features.hpp"
#include "krul/core/workers.hpp"

namespace krul {

/// How rows are coded for a coded_copy.
struct CodedAs {
  std::shared_ptr<const Profile> profile;  ///< none: not at all
  StepScale step;
  const TokenFeatures& features;  ///< of the rows, if the profile asks for them
  RecentRows recent = {};
};

/// Leading rows of a cache, and the room that their copy gets.
struct RowsToCopy {
  std::size_t count = 0;
  std::size_t capacity = 0;  ///< of the copy, tokens
  std::size_t block = 64;    ///< tokens that are coded together
};

/// A new cache with a cache's first rows as they come back from a save and a restore.
/// @throws PreconditionError if the cache has fewer rows, or the profile is not the model's; NotFiniteError if a row is
///         not finite
/// @complexity a save and a restore
template <ModelBackend B>
[[nodiscard]] typename B::Cache coded_copy(B& model, const typename B::Cache& from, const RowsToCopy& rows,
                                           const CodedAs& as, Workers& workers) {
  expects(from.length() >= rows.count && rows.block > 0, "coded_copy: the cache has fewer rows");
  expects(!as.profile || belongs_to(*as.profile, model.identity()), "coded_copy: the profile is another model's");
  const Geometry& geometry = model.geometry();
  const std::size_t groups = as.profile ? as.profile->data().groups.size() : 1,
                    blocks = (rows.count + rows.block - 1) / rows.block;
  std::vector<std::vector<OwnedKvRows>> coded(groups * blocks);
  const auto tokens_of = [&](std::size_t task) {
    const std::size_t first = task % blocks * rows.block;
    return TokenRange{first, std::min(first + rows.block, rows.count)};
  };
  const auto first_layer = [&](std::size_t task) {
    return as.profile ? as.profile->data().groups[task / blocks].first_layer : 0;
  };
  workers.parallel_for(coded.size(), [&](std::size_t task, std::size_t) {
    const TokenRange tokens = tokens_of(task);
    const std::size_t layers = as.profile ? as.profile->data().groups[task / blocks].layers : geometry.layers;
    for (std::size_t layer = 0; layer < layers; ++layer)
      coded[task].push_back(read_finite_kv_rows(from, geometry, first_layer(task) + layer, tokens));
    if (!as.profile) return;
    std::vector<MutableKvRows> to;
    for (OwnedKvRows& layer : coded[task]) to.push_back(layer.view());
    const bool is_recent = as.recent.include(tokens.end, rows.count);
    const JointTransform coding(as.profile, task / blocks, is_recent ? as.recent.step(as.step) : as.step);
    const BlockContext context{static_cast<Position>(tokens.begin), as.features.of(tokens)};
    const auto chunk = coding.encode(geometry, views_of(coded[task]), context);
    expects(coding.decode(geometry, chunk, to, context).has_value(), "coded_copy: own chunks decode");
  });
  auto copy = model.make_cache(rows.capacity);
  for (std::size_t task = 0; task < coded.size(); ++task)
    for (std::size_t layer = 0; layer < coded[task].size(); ++layer)
      copy.wait(copy.write_kv(first_layer(task) + layer, tokens_of(task), coded[task][layer].view()));
  copy.commit(rows.count);
  return copy;
}

}  // namespace krul
