#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "krul/compress/joint_transform.hpp"
#include "krul/compress/token_features.hpp"
#include "tool.hpp"

namespace krul::cli {

/// What coding a conversation by a profile takes on one core.
struct CodingFigures {
  double encode_us = 0, decode_us = 0;  ///< microseconds a token
  double bytes = 0;                     ///< a token
};

/// The rows of a text as the model computes them, to be coded and brought back.
class CodingProbe {
 public:
  /// Runs the model over the tokens, all of them but those of a last block that is not whole.
  CodingProbe(LoadedModel& model, std::shared_ptr<const Profile> profile, std::span<const Token> tokens);

  /// All blocks, one after another, on this thread.
  [[nodiscard]] CodingFigures run(StepScale step) const;

 private:
  std::shared_ptr<const Profile> profile_;
  Geometry geometry_;
  std::size_t tokens_;
  CpuModel::Cache cache_;
  TokenFeatures features_;
};

}  // namespace krul::cli
