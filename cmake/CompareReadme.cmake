# cmake -DREADME=file -DPROGRAM=file -P CompareReadme.cmake: the README must contain the program as a C++ block.
file(READ ${README} readme)
file(READ ${PROGRAM} program)
string(FIND "${readme}" "```cpp\n${program}```" place)
if(place EQUAL -1)
  message(FATAL_ERROR "the C++ block of ${README} is not ${PROGRAM}")
endif()
