"""What `rpn --help` and the help of each command say."""

DESCRIPTION = """\
Train a Region Proposal Network on your own photographs, measure it, and use it.

  rpn check my_images                     what is wrong with the annotations?
  rpn anchors my_images                   which anchors suit the objects?
  rpn train --data my_images              learn; Ctrl-C saves, --resume continues
  rpn evaluate --data my_images           how many of the objects are found?
  rpn propose photo.jpg                   where might there be objects?
  rpn export                              a web page in which the network runs
  rpn experiments                         which choices matter, and how much?

`rpn train` alone learns from synthetic scenes that it draws itself: nothing to
download, about a minute. A folder is laid out as Pascal VOC (ImageSets/Main/train.txt,
Annotations, JPEGImages), as COCO (annotations/instances_train.json, train/) or as YOLO
(data.yaml, images/, labels/)."""


# The first line of each is what `rpn --help` says.
COMMANDS = {
    "train": """\
Train a network, and measure it.

Training starts from random weights, or from weights learnt on ImageNet (--pretrained).

  rpn train                               on synthetic scenes, about a minute
  rpn train --data my_images              on a folder of photographs
  rpn train --resume                      continue the run in --out, as if never stopped
  rpn train --settings runs/rpn/settings.json --out runs/again    repeat a run
  torchrun --nproc-per-node 2 -m rpn_lib train --data my_images   two processes

--out gets checkpoint.pt, results.json, proposals.png, metrics.csv, settings.json and
checkpoints/. Anchors are fitted to the training boxes unless --sizes are given. An
option given with --settings takes the place of the one in the file.""",
    "evaluate": """\
Measure a trained network.

The measure is average recall (AR) for several numbers of proposals, by the size of the
objects, with plots. The data set is the one that the network was trained with unless
another is given.

  rpn evaluate
  rpn evaluate --checkpoint a.pt --compare b.pt --data my_images --split test""",
    "propose": """\
Propose boxes in photographs.

Each photograph gets a picture with the best boxes drawn in, and a JSON file with all of
them, in pixels of the photograph. Without --checkpoint and without a run in runs/rpn,
the network that comes with the library is used, which knows synthetic scenes only.
Pictures that rpn itself has written are passed over in a folder.

  rpn propose photo.jpg
  rpn propose holiday/ --checkpoint runs/rpn/checkpoint.pt --out found""",
    "export": """\
Write a web page in which a network runs.

The page is one file: open it in a browser, or send it. Photographs are picked or
dropped there, nothing leaves the machine, and each step from picture to proposals can
be looked at.

  rpn export
  rpn export --checkpoint mine.pt --out page.html --pictures a.jpg b.jpg""",
    "anchors": """\
Show how well anchors fit the objects of a data set.

Without --sizes, those that `rpn train` would choose are looked at. Writes a picture.

  rpn anchors my_images
  rpn anchors my_images --sizes 32 64 128""",
    "check": """\
List everything in a data set that cannot be right.

Every annotation and every picture is read; each fault is named with file, box, reason
and fix. Exit code 1 if there is something.

  rpn check my_images
  rpn check my_images --splits train --classes cat dog""",
    "experiments": """\
Ask a data set the questions of the Faster R-CNN paper.

Which anchors, how much weight for the boxes, how many proposals, and what does each
part of the network bring? Chapter 11 of the book reads the answers. There are seven
trainings for each seed, of about 10 seconds each on synthetic scenes, and one process
for each core. A run that is finished is kept: after Ctrl-C, the same command goes on.

  rpn experiments
  rpn experiments --data my_images --seeds 5 --out runs/mine

--out gets a file for each run, and experiments.json, the table.""",
}
